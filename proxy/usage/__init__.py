"""What requests use, cost and save: counted here, added up by all replicas, shown to admins."""
