"""Changes of an operational Postgres, read from its journal by Debezium and put into the log.

    settings     which database, which tables, what is masked
    postgres     what the database says of itself: tables, role, publication, slot
    setup        what must be there, checked, with the SQL for what is not
    masks        what becomes of a masked value; the test of every mask at the start
    changes      what Debezium says of a change -> entries of topic `changes`
    debezium     Debezium in a Java machine inside this process
    state        the files of a source: where it stands, how it fares
    follow       the process: checks, snapshot, changes, until it is told to stop

One process for each database; a Java machine cannot be started twice in one. What becomes of a change:

    journal -> Debezium -> (drop: the column is never read; constant: replaced) -> one JSON text in memory
            -> hash, types, time zone -> topic `changes`, durable -> Debezium's offset -> the slot moves on
                                      `-> topic `rejected`, when a value cannot be held

Guarantee: at least once, in order for each row. The offset is written after the log has the change, so whatever dies in
between, the change comes again, with the same message id. Nothing of a masked column is written to any file: neither by us,
nor by Debezium, whose own log is off, nor by Java, which leaves no dumps behind.
"""
