"""Changes of a database that somebody else's Debezium has put into Kafka, read from there and put into the log.

    settings     which brokers, which topic is which table, what of it is masked
    shapes       the forms in which Debezium writes: enveloped or unwrapped, with a schema beside it or without, tombstones
    columns      what a column is: by its schema, or as it is declared; its values as the log holds them
    translate    a message -> the record of topic `changes`, masked
    follow       the process: masks tested, then message after message, until it is told to stop

    topic of somebody -> one message in memory -> mask -> topic `changes` of the log, durable -> offset committed
                                               `-> topic `rejected`, when it cannot be held

Guarantee: at least once, in order for each key. Offsets are committed to the consumer group after the log has the change;
what comes twice has the same message id, and the position of a change among the others of its row is the same.
"""
