"""Local twins of the tools that Headwater delivers to: the vendor's HTTP interface over records of their own.

    serving     a twin over real HTTP: one frame around every call, scripted faults, the page that shows its records
    shelf       where a twin keeps its records
    salesforce  leads and other objects: sign-in, collections, Bulk API 2.0, locks, duplicate rules, quota
    hubspot     contacts and other objects: batch upsert with trace ids, 207, 429 by policy
    beside      the twins of a project: their syncs, their records, their servers

A twin is judged against what the vendor publishes of its interface: a request that the vendor would refuse is refused here.
"""
