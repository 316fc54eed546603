"""The durable, append-only event log: what was answered with 200 is in it, whatever happens next.

base      the contract
sqlite    the default: one file, many readers (file: how it is opened and what its errors mean; packed: its rows)
kafka     topics of a cluster (brokers: how it is reached; kafka_topic, kafka_record: reading; kafka_notes: readers and hidden records;
          kafka_making: its topics; kafka_groups: readers that are not ours; order: one order for several partitions)
opening   the log that the settings name; move: from the file to Kafka
memory    for tests
group     durability for coroutines: one commit for all requests that have gathered
"""
