"""Load, floors and the suite that compares them with Nearhit on one machine in one run."""
