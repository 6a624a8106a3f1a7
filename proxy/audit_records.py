"""What an audit leaves behind: a labelled pair, and an entry that is kept from its tenant."""

from __future__ import annotations

from datetime import datetime

from proxy.call import Call
from proxy.events import LONGEST_QUESTION
from proxy.feedback import stop_for
from store.documents.records import Pair, PairSource, Records
from store.entry import Candidate, Held
from store.quarantine import Quarantine, names_of


class AuditRecords:
    """Writes down what audits found."""

    def __init__(self, records: Records, quarantine: Quarantine) -> None:
        self._records = records
        self._quarantine = quarantine

    async def stop(self, call: Call, held: Held, now: datetime) -> None:
        """Keep a wrong answer from this tenant, as its own word would; raise StoreUnavailable."""
        names = names_of(held.id, held.shared_key)
        await stop_for(self._quarantine, names, call.caller.tenant, now, "audit")

    async def pair(
        self, call: Call, found: Candidate, now: datetime, source: PairSource, *, wrong: bool
    ) -> None:
        """Keep the two questions with the verdict; raise StoreUnavailable."""
        query, held = call.question.text, found.held
        if max(len(query), len(held.query)) > LONGEST_QUESTION:
            return
        if held.earlier != call.question.earlier:  # then the two questions alone say nothing
            return
        await self._records.add_pair(
            Pair(
                at=now,
                tenant=call.caller.tenant,
                event=f"{source}:{call.request.request_id}",
                query=query,
                entry_query=held.query,
                entry_id=held.id,
                similarity=found.similarity,
                label=0 if wrong else 1,
                category=call.category,
                source=source,
            )
        )
