"""What comes in: which of a shop's files hold what, and how their columns become Headwater's entities.

    profiles --recognise--> Mapping --write/read--> mapping.yml --staging.render--> models/staging/*.sql, *.yml
    (warehouse.files)       columns, vocabulary,    mapping, expressions            parts, checks, counts, descriptions
                            open_lines, remarks

Nothing here opens a file of data or the warehouse. `recognise` sees profiles and proposes; what it cannot settle it leaves
as an open line. `mapping.yml` is the user's; the staging models are made from it at every `headwater seed`, and refused
when somebody has edited them.

What becomes of a row:

    line of the file --(no row at all)--> headwater.file_rejects
         | raw.<table>, as it stands
         |--(`where` of the mapping)----> excluded
         |--(fails a check)-------------> quarantined_rows: file, line, column, value, reason, advice; one row per reason
         |--(repeats a key exactly)-----> collapsed; several rows made into one by `collapse` count here too
         v
    stg_<entity>, its blanks trimmed and so on: kept (repaired, netted, duplicate, unattributed, ended are counted among them)

`row_counts` holds all of it, per entity: read = kept + orphaned (a line whose order is not there) + quarantined + collapsed +
excluded + unreadable, in rows and in money, held by a dbt test. Nothing here depends on the order of runs: the same files and
the same mapping give the same models and the same rows.

The collector takes events over HTTP and puts them into the log; it never opens the warehouse either:

    serve, collector      the process; the ASGI application with its paths (endpoints, origin, browser, health, metrics)
    intake                one request: whose it is (sources), which events it holds (split, webhook), what becomes of each
    accept, plan, mask    one event: normalised, held against its source's tracking plan, masked
    rejections, reasons   what was not accepted, with every reason; redrive: what it would become now

What becomes of an event that was sent:

    HTTP --(cannot be kept: overload, full disk)--> 429, 503; the sender keeps it and sends it again
      |--(rejected)----> topic `rejected` of the log, durable, then 200, 400 or 401
      `--(accepted)----> topic `events` of the log, durable, then 200
"""
