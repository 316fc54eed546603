"""Local twins of the tools that Headwater delivers to: the vendor's HTTP interface over records in memory.

    serving     a twin over real HTTP, scripted faults, and the page that shows its records
    salesforce  leads and other objects: sign-in, collections, Bulk API 2.0, locks, duplicate rules, quota
    hubspot     contacts and other objects: batch upsert with trace ids, 207, 429 by policy

A twin is judged against what the vendor publishes of its interface: a request that the vendor would refuse is refused here.
Nothing is kept when it stops.
"""
