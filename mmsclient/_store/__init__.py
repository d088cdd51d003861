"""What must outlive a process.

The journal of a campaign has three uses, and `protocol` has a type for each: `SenderJournal` claims recipients and
records results, `JournalReader` reads, `ReportRecorder` notes delivery reports. `states` holds the one table of
transitions, `schema/` the tables, `sqlite_*` and `postgres/` the engines, and `stores` what chooses between them.
"""
