"""Who is in what, by model. (Rule segments are SQL models of the dbt project.)

    features      recency, frequency, money: checked, and never from the future
    cluster       log1p, z-scores, k-means; the fitted model
    naming        five names by rules on what the clusters look like
    stability     bootstrap Jaccard per cluster, and whether there is any structure
    align         which cluster continues which segment
    churn         the head that shows leaks and useless features, out of time
    clv           BG/NBD and Gamma-Gamma
    gate          what a model must show; a refusal has rule and numbers
    registry      versions, aliases, artefacts; promote, rollback
    train         the stage that makes a version
    assign        the stage that scores everybody, in SQL
    memberships   who was in which segment, and when
    publish       the dbt seed `customer_segments`, or the table in its place
    monitor       drift, shares, moves, forecast

`train` reads `main.int_customer_rfm` and leaves a version in `headwater.ml_model_registry`; `assign` reads the champion and leaves
`headwater.segment_assignments`, `headwater.clv_scores` and `customer_segments`; `monitor` leaves `headwater.segment_monitor`. Each may run
twice with the same result. Nothing here is imported before a command needs it: scikit-learn takes a second to load.
"""
