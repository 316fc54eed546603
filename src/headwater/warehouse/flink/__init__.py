"""The data products on Flink, the engine for what one machine does not hold.

    settings     how the job runs: state, checkpoints, topics, cluster
    script       the statements, rendered from `sql/` with the project's settings
    gateway      statements handed to a cluster's SQL gateway, and what became of them
    local        a gateway with a cluster of its own on this machine, for tests and trying things
    differences  where Flink's answer is another one than the engine's, in sentences

    topic `changes` of the log (Kafka) -> one job -> a compacted topic per data product: key and row as JSON, null = gone

The job reads the same masked records that the engine lands, so a project moves by starting it: nothing is read from the database
again. The statements stand beside the dbt models of the template `online-retailer` and mean the same; a test holds both against
each other, row for row. What a version held at the moment of an order is found by joining all versions and keeping the right
one, not by a temporal join: a version that comes late corrects the sale, and an order before the first version keeps its row.

Guarantee: a row's topic ends at the same newest message whatever is killed (upserts by key; Flink's checkpoints begin again
where they were). The job may write a row twice.
"""
