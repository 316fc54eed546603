-- The tables that Headwater itself writes, in the schema `headwater` of the user's warehouse. They exist, empty, before
-- the first build; dbt reads them as sources. `create … if not exists`: running this twice changes nothing.
-- Times are TIMESTAMP and mean UTC. Money is DECIMAL. Nothing here is ever updated in place unless its comment says so.

create schema if not exists raw;
create schema if not exists headwater;
create schema if not exists delivered;
create schema if not exists collected;
create schema if not exists landed;
create schema if not exists sums;

-- one row: the logical moment that every model sees
create table if not exists headwater.clock (
    as_of timestamp,                -- inclusive end of all windows
    position varchar,               -- log position, JSON {partition: offset}; null for files
    set_at timestamp                -- when it was set (wall clock)
);

-- one row per stage and run; updated when the stage ends
create table if not exists headwater.stage_runs (
    run_id varchar, stage varchar, status varchar,      -- running | ok | skipped | refused (a gate said no) | failed | interrupted
    started_at timestamp, ended_at timestamp, as_of timestamp,
    row_count bigint, message varchar,                  -- message: the sentence shown on the screen
    warnings json                                       -- list of sentences: what was dropped, skipped, repaired, doubted
);

-- one row per stage: its newest run. A build of everything makes up for the builds of its parts and the other way round, and a
-- build makes up for the tests before it, since it tests what it builds: a run that was made up for is not shown any more.
create view if not exists headwater.stage_status as
with newest as (
    select * from headwater.stage_runs
    qualify run_id = first(run_id) over (partition by stage order by started_at desc, run_id desc)
),
well as (
    select stage, max(started_at) as started_at from headwater.stage_runs where status = 'ok' group by stage
),
made_up_for as (
    select 'build' as stage, (select least(u.started_at, d.started_at) from well u, well d
        where u.stage = 'build_upstream' and d.stage = 'build_downstream') as at
    union all
    select parts.stage, (select started_at from well where stage = 'build') as at
    from (values ('build_upstream'), ('build_downstream')) as parts(stage)
    union all
    select 'test', (select max(started_at) from well where stage in ('build', 'build_downstream'))
)
select newest.* from newest left join made_up_for using (stage)
where made_up_for.at is null or newest.started_at >= made_up_for.at;

-- one row per loaded file (updated in place when the same file is loaded again)
create table if not exists headwater.file_loads (
    load_id varchar, file varchar, raw_table varchar, sha256 varchar, size_bytes bigint,
    read_rows bigint, loaded_rows bigint, rejected_rows bigint, loaded_at timestamp,
    encoding varchar, repaired_rows bigint,              -- repaired: lines read as latin-1; read = loaded + rejected
    columns json, warnings json                          -- the file's columns; what was said of it, one sentence each
);

-- one row per line that could not be read as a row of its file at all (all reasons at once; `line` is 1-based)
create table if not exists headwater.file_rejects (
    load_id varchar, file varchar, line bigint, column_name varchar, value varchar, reason varchar, advice varchar
);

-- one row per version of a segment model; aliases move, rows stay (alias, promoted_at are updated in place)
create table if not exists headwater.ml_model_registry (
    model varchar, version bigint, alias varchar,        -- champion | challenger | previous | null
    trained_at timestamp, as_of timestamp, params json, metrics json, stability json,
    verdict varchar,                                     -- promoted | doubtful | refused
    verdict_reason varchar, data_hash varchar, artefact varchar, artefact_sha256 varchar, promoted_at timestamp
);

-- one row per cluster of the segment model that is in use; replaced as a whole by a promotion or a rollback. Means, scales and
-- centres are of ln(1 + feature); null = the feature is not in use
create table if not exists headwater.segment_centroids (
    version bigint, stability varchar, raw_segment_id bigint, segment_id bigint, segment_name varchar, monetary_floor double,
    recency_mean double, recency_scale double, recency_centre double,
    frequency_mean double, frequency_scale double, frequency_centre double,
    monetary_mean double, monetary_scale double, monetary_centre double
);

-- one row per customer and period of membership in an ML segment (SCD2; valid_to null = now)
create table if not exists headwater.segment_assignments (
    customer_id varchar, segment_id bigint, segment_name varchar, raw_segment_id bigint, margin double,
    model varchar, version bigint, stability varchar,    -- stability: fine | doubtful | not trusted
    valid_from timestamp, valid_to timestamp
);
alter table headwater.segment_assignments add column if not exists reason varchar;         -- why it began: entered | moved | version | verdict
alter table headwater.segment_assignments add column if not exists entered_version bigint; -- the change (model_changes.version) that began it
alter table headwater.segment_assignments add column if not exists left_version bigint;    -- and the one that ended it

-- one row per membership that was stated otherwise afterwards, as if it had never been; it may have been published before that
create table if not exists headwater.segments_withdrawn (customer_id varchar, segment_id bigint, segment_name varchar);

-- one row per state of segment_assignments from which all that followed can be derived again out of model_changes; the newest
-- counts. because: batch (written for everybody at once) | hysteresis (the setting was changed) | retention (older changes went)
create table if not exists headwater.segment_baselines (
    version bigint, as_of timestamp, hysteresis double, because varchar, noted_at timestamp
);

-- one row per customer in a segment; takes the place of the seed `customer_segments` in shops above `segments.ml.seed_limit`
-- (empty otherwise); replaced as a whole by `segment assign --publish`
create table if not exists headwater.customer_segments (customer_id varchar, segment_id bigint, segment_name varchar);

-- one row per new cluster at a retrain: which old one it continues
create table if not exists headwater.segment_alignment (
    model varchar, version bigint, previous_version bigint, segment_id bigint, previous_segment_id bigint,
    outcome varchar, overlap double, customers bigint    -- outcome: carried | new | retired
);

-- one row per run, segment or feature, and measure (psi, share, silhouette, transition:<to>, forecast …)
create table if not exists headwater.segment_monitor (
    run_id varchar, measured_at timestamp, as_of timestamp, model varchar, version bigint,
    measure varchar, subject varchar, value double, threshold double, alert boolean
);

-- one row per distinct trace; decisions refer to it (a view expands it)
create table if not exists headwater.decision_traces (trace_id varchar, trace json);

-- one row per decision; a million are written at a time, so the compression that each column would end up with is named and
-- not searched for (a quarter of the time of writing)
create table if not exists headwater.decision_log (
    decision_id varchar using compression fsst, idempotency_key varchar using compression fsst, decided_at timestamp,
    run_id varchar using compression dictionary, customer_id varchar using compression fsst,
    experiment_group varchar using compression dictionary,   -- treatment | holdout
    segment varchar using compression dictionary, goal varchar using compression dictionary,
    policy varchar using compression dictionary, policy_version varchar using compression dictionary,
    features json using compression dictionary, feasible_actions json using compression dictionary,
    probabilities json using compression dictionary,
    action varchar using compression dictionary, channel varchar using compression dictionary,
    template varchar using compression dictionary, discount_pct decimal(5,2),
    propensity double, seed varchar using compression dictionary, trace_id varchar using compression dictionary,
    blocked_by varchar using compression dictionary, config_hash varchar using compression dictionary,
    as_of timestamp                                      -- the moment of the data that the customer was judged by
);

create table if not exists headwater.decision_rejects (
    rejected_at timestamp, run_id varchar, customer_id varchar, field varchar, value varchar, reason varchar
);

-- one row per message that was released to a person, on any channel; removed again when it certainly did not arrive
create table if not exists headwater.contact_ledger (
    contact_id varchar, customer_id varchar, channel varchar, campaign varchar, decision_id varchar, contacted_at timestamp
);

-- one row per reservation, or its return (negative); amounts add up to what is used
create table if not exists headwater.budget_ledger (
    reservation_id varchar, budget varchar, period_start timestamp, decision_id varchar, amount decimal(18,4), reserved_at timestamp
);

-- one row per customer and channel that said something after the source file was written; the newest wins
create table if not exists headwater.consent_state (
    customer_id varchar, channel varchar, consented boolean, source varchar, recorded_at timestamp
);

-- one row per switch; a row with is_on = true stops its scope (global | channel:<name> | campaign:<name>)
create table if not exists headwater.kill_switch (
    scope varchar, is_on boolean, reason varchar, set_by varchar, set_at timestamp
);

-- one row per outcome that a file handed in; what the warehouse sees for itself (orders, visits, tracked events) is not copied
create table if not exists headwater.outcomes (
    outcome_id varchar, customer_id varchar, kind varchar,   -- order | open | click | visit | unsubscribe | complaint
    value decimal(18,4), occurred_at timestamp, decision_id varchar, campaign varchar, channel varchar,
    import_id varchar, imported_at timestamp
);

-- one row per file of outcomes that was taken in: read = new + known + rejected
create table if not exists headwater.outcome_imports (
    import_id varchar, file varchar, read_rows bigint, new_rows bigint, known_rows bigint, rejected_rows bigint,
    consents bigint, imported_at timestamp
);

-- one row per row of such a file that could not be used, with all its reasons; `line` is 1-based
create table if not exists headwater.outcome_rejects (
    import_id varchar, file varchar, line bigint, customer_id varchar, row_text varchar, reasons json, rejected_at timestamp
);

-- one row per decision that opened a window and whose window has closed; replaced as a whole by `outcomes attribute`
create table if not exists headwater.outcome_log (
    outcome_id varchar, decision_id varchar, customer_id varchar, goal varchar, value decimal(18,4),
    window_start timestamp, window_end timestamp, recorded_at timestamp
);
alter table headwater.outcome_log add column if not exists metrics json;   -- guardrail metric -> how often

-- one row per outcome that belongs to a decision (to one at most); replaced as a whole by `outcomes attribute`
create table if not exists headwater.outcome_attributions (
    outcome_id varchar, kind varchar, customer_id varchar, decision_id varchar, value decimal(18,4), occurred_at timestamp
);

-- one row per goal, comparison of two groups, segment ('all' = over all) and metric; replaced as a whole
create table if not exists headwater.experiment_results (
    goal varchar, segment varchar, metric varchar, group_a varchar, group_b varchar,
    customers_a bigint, customers_b bigint, mean_a double, mean_b double, lift double, error double,
    low double, high double, safe_low double, safe_high double, detectable double, trusted boolean, sentence varchar,
    computed_at timestamp
);

-- one row per goal: what the comparison of its groups says as a whole; replaced as a whole
create table if not exists headwater.experiment_reports (
    goal varchar, window_days bigint, unit varchar, groups json, closed json,   -- customers by group; those whose time is over
    trusted boolean, message varchar, power varchar, checks json,
    computed_at timestamp                                -- the data's moment
);

-- one row per version of a learned policy; aliases move, rows stay (alias, verdict, promoted_at are updated in place)
create table if not exists headwater.policy_registry (
    goal varchar, version bigint, alias varchar,         -- champion | challenger | previous | null
    learner varchar, trained_at timestamp, as_of timestamp, row_count bigint, customers bigint, data_hash varchar,
    model json, evaluation json, verdict varchar,        -- trained | promoted | refused | retired
    verdict_reason varchar, promoted_at timestamp
);

-- one row per planned operation; state moves ready -> claimed -> done | failed | held, or to superseded (updated in place).
-- A million are written at a time: their compression is named, as in decision_log
create table if not exists headwater.outbox (
    operation_id varchar using compression fsst, sync varchar using compression dictionary,
    key varchar using compression fsst, version bigint, operation varchar using compression dictionary,   -- create | update | delete
    payload json using compression fsst, previous json using compression fsst, state varchar using compression dictionary,
    reason varchar using compression dictionary,         -- rule and sentence of a hold, code and message of a failure
    plan_id varchar using compression dictionary, decision_id varchar using compression fsst, attempts bigint,
    available_at timestamp,
    claimed_by varchar using compression dictionary,     -- the batch it was sent in last; null once the row was refused
    created_at timestamp, updated_at timestamp,
    customer_id varchar using compression fsst, code varchar using compression dictionary,
    in_doubt boolean                                     -- sent, and never answered for certain
);

-- one row per run of a sync (updated in place when it ends)
create table if not exists headwater.sync_runs (
    sync_run_id varchar, sync varchar, plan_id varchar, run_id varchar, dry_run boolean, status varchar,
    planned bigint, sent bigint, confirmed bigint, failed bigint, held bigint,
    started_at timestamp, ended_at timestamp, message varchar
);

-- one row per sync and address at which its confirmed rows are; several where a person said that they are the same tool
create table if not exists headwater.sync_places (sync varchar, place varchar, since timestamp);

-- one row per sync that was started anew: versions of its rows count on from there
create table if not exists headwater.sync_starts (sync varchar, version bigint, started_at timestamp);

-- one row per operation and attempt
create table if not exists headwater.sync_rows (
    sync_run_id varchar using compression dictionary, sync varchar using compression dictionary,
    operation_id varchar using compression fsst, key varchar using compression fsst,
    operation varchar using compression dictionary, attempt bigint, status varchar using compression dictionary,
    code varchar using compression dictionary, message varchar using compression dictionary,
    advice varchar using compression dictionary, request json using compression fsst, response json using compression fsst,
    sent_at timestamp
);

-- one row per alert: of a kind and sync at most one is open (resolved_at null); seen_at, resolved_at, told_at and told_error are
-- updated in place. kind: failed_run | failed_share | freshness | count_deviation | run_time | stopped
create table if not exists headwater.alerts (
    alert_id varchar, kind varchar, sync varchar, sentence varchar, raised_at timestamp, seen_at timestamp,
    resolved_at timestamp, told_at timestamp, told_error varchar   -- told_at: when whoever listens was told last
);

-- one row per record of a destination that holds a row of ours: by what id the destination knows it (`hubspot:contact:101`)
create table if not exists headwater.remote_ids (
    remote_id varchar, sync varchar, key varchar, customer_id varchar, told_at timestamp
);

-- one row per event that says what became of a message, or that a person withdrew or gave consent (state and customer_id are
-- updated in place when the person becomes known and the ledgers have followed)
create table if not exists headwater.replies (
    event_id varchar, source varchar, kind varchar, channel varchar,   -- kind: unsubscribed | resubscribed | bounced | sent
    hard boolean, customer_id varchar, anonymous_id varchar, occurred_at timestamp,
    state varchar, followed_at timestamp                               -- state: waiting | done
);

-- one row per dbt test and run of dbt; failures = rows that break it
create table if not exists headwater.test_results (
    run_id varchar, test_name varchar, model varchar, status varchar, failures bigint, message varchar, tested_at timestamp
);

-- one row per customer with orders; replaced as a whole by `segment assign`
create table if not exists headwater.clv_scores (
    customer_id varchar, as_of timestamp, model varchar, version bigint,
    expected_purchases double, expected_value decimal(18,4), clv decimal(18,4), horizon_days bigint
);

-- What the collector accepted, landed by the engine; ordered by position, never updated, removed only when somebody is forgotten.
-- Every moment is UTC; `position` is the log's offset of topic events.

-- one row per track, page or screen call; event_id is Segment's messageId, occurred_at is corrected for the sender's clock
create table if not exists collected.events (
    event_id varchar, source varchar, kind varchar, event_name varchar, raw_name varchar,
    customer_id varchar, anonymous_id varchar, occurred_at timestamp, received_at timestamp,
    session_id varchar, product_id varchar, page_url varchar, channel varchar, campaign_id varchar,
    is_future boolean, properties json, context json, position bigint
);

-- one row per identify call (and per group call, with its traits under their own names); null = the call did not say
create table if not exists collected.identifies (
    event_id varchar, source varchar, kind varchar, customer_id varchar, anonymous_id varchar,
    occurred_at timestamp, received_at timestamp,
    email varchar, phone varchar, first_name varchar, last_name varchar, company varchar, gender varchar,
    city varchar, state varchar, country varchar, postal_code varchar, time_zone varchar,
    nps_score bigint, email_opt_in boolean, sms_opt_in boolean, created_at timestamp,
    traits json, position bigint
);

-- one row per alias call: the person known as previous_id (a user id or an anonymous id) is the customer customer_id
-- (landing writes it with the other two, before identity is followed)
create table if not exists collected.aliases (
    event_id varchar, source varchar, previous_id varchar, customer_id varchar,
    occurred_at timestamp, received_at timestamp, position bigint
);

-- one row per (source, messageId) of the last 24 hours at least: what was landed already
create table if not exists collected.message_ids (
    source varchar, message_id varchar, received_at timestamp,
    landed_at timestamp                                  -- by the engine's clock; a row goes two days later
);

-- one row per statement that two ids are one person, dated by the earliest event that makes it; linked_at (when an earlier
-- event arrives late), undone_at and refused_because (a limit; null = it joins them) are updated in place.
-- left_node and right_node are 64-bit hashes of (kind, id): joins on numbers are six times as fast as on the ids
create table if not exists headwater.identity_links (
    link_id varchar, left_kind varchar, left_id varchar, right_kind varchar, right_id varchar,   -- user | anonymous | email | device
    reason varchar, linked_at timestamp, event_id varchar, undone_at timestamp, undone_because varchar,
    refused_because varchar, left_node ubigint, right_node ubigint
);

-- one row per id that was seen in a link; recomputed per component (updated in place)
create table if not exists headwater.identities (
    id_kind varchar, id varchar, person_id varchar, customer_id varchar, linked_at timestamp, reason varchar,
    node ubigint, person_node ubigint                    -- hashes of (id_kind, id), as in identity_links, and of person_id
);

-- one row per rejected event; reason is the first code, reasons all of them; redriven_at is updated in place
create table if not exists headwater.rejected_events (
    rejected_id varchar, source varchar, received_at timestamp, message_id varchar, reason varchar, reasons json,
    raw blob, position bigint, redriven_at timestamp,
    arrival json   -- what a redrive needs beside the bytes: endpoint, ip, shared (top of the batch), masked
);

-- one row per row of a live model that changed, for models that have a consumer; op: insert | update | delete
create table if not exists headwater.model_changes (
    model varchar, key varchar, op varchar, old json, new json, version bigint, as_of timestamp
);

-- one row per consumer of model_changes: how far it has read
create table if not exists headwater.change_cursors (consumer varchar, version bigint, moved_at timestamp);

-- one row per live model (updated in place)
create table if not exists headwater.live_models (
    model varchar, mode varchar, sql_hash varchar, state varchar,              -- live | rebuilding | stopped
    refreshed_at timestamp, as_of timestamp, source_time timestamp, touched_keys bigint, seconds double,
    due_backlog bigint, next_due_at timestamp, message varchar,
    verified_at timestamp, verified_rows bigint, wrong_rows bigint
);

-- one row per key that a live model has still to look at: more windows ended than one batch takes, a throttled model, a model
-- that failed; a null key means the whole model (rows go when they are done)
create table if not exists headwater.due_keys (model varchar, key varchar, because varchar, since timestamp);

-- one row per table that live models read or are: what it held when the engine was last done with it (updated in place)
create table if not exists headwater.live_tables (relation varchar, row_count bigint, content hugeint, seen_at timestamp);

-- one row per key that keeps its last good row because its SQL failed, or because a model above it did (the origin)
create table if not exists headwater.stale_keys (
    model varchar, key varchar, error varchar, since timestamp, origin_model varchar, origin_key varchar
);

-- one row per person or id that must never come back; value is an HMAC, never the id itself
create table if not exists headwater.suppressed_ids (id_kind varchar, id_hash varchar, since timestamp, receipt_id varchar);

-- one row per delete call that was landed; goes with everything else of the person when he is forgotten
create table if not exists headwater.deletion_requests (
    event_id varchar, source varchar, customer_id varchar, anonymous_id varchar, received_at timestamp, position bigint
);

-- one row per place and deletion: how many rows were removed
create table if not exists headwater.deletion_receipts (
    receipt_id varchar, requested_at timestamp, ended_at timestamp, place varchar, removed_rows bigint, message varchar
);

-- one row per person and period in a rule segment, derived from model_changes (valid_to null = now)
create table if not exists headwater.segment_memberships (
    customer_id varchar, segment varchar, entered_at timestamp, left_at timestamp, entered_version bigint, left_version bigint
);

-- Changes of database rows. Their tables are in the schema `landed`, two for each table of a source (live/shapes.py):
-- <source>__<table>, one row per row as it is now, and <source>__<table>__versions, one row per row and moment of a change.

-- one row per landed table; floor_lsn: everything up to there was emptied by a TRUNCATE (updated in place)
create table if not exists headwater.landed_tables (
    relation varchar, source varchar, table_name varchar, floor_lsn bigint, told_at timestamp
);

-- one row per column that a landed table has or had; landed_as: its name there, null = the source has it no more; note: what
-- was done when it changed (updated in place)
create table if not exists headwater.landed_columns (
    relation varchar, column_name varchar, landed_as varchar, sql_type varchar, is_key boolean, place bigint,
    note varchar, changed_at timestamp
);

-- one row per row that was deleted, so that an older change cannot bring it back; goes when the key comes again
create table if not exists headwater.landed_deletes (relation varchar, key varchar, lsn bigint, "at" timestamp);

-- one row per snapshot of a source's tables (ended_at null = it runs, or a newer one took its place)
create table if not exists headwater.landed_snapshots (
    source varchar, snapshot_id varchar, tables json, lsn bigint, started_at timestamp, ended_at timestamp, removed_rows bigint
);

-- one row per call to a language model; request: exactly what was sent (no personal field is ever in it); status: answered |
-- timeout | busy | refused | invalid | failed; cost in the currency of the prices in the settings
create table if not exists headwater.llm_calls (
    call_id varchar, asked_at timestamp, purpose varchar, about varchar, provider varchar, model varchar, prompt_hash varchar,
    request json, answer json, status varchar, reason varchar, requests bigint, input_tokens bigint, output_tokens bigint,
    cost decimal(18,6), seconds double
);

-- one row per question about a situation, each time it was asked; action null = no answer, reason says why; the newest counts
create table if not exists headwater.llm_choices (
    question_id varchar, chosen_at timestamp, goal varchar, segment varchar, features json, actions json, action varchar,
    rationale varchar, reason varchar, model varchar, call_id varchar
);

-- one row per segment and bucket, each time a risk was asked for; of no use before it is calibrated; the newest counts
create table if not exists headwater.llm_risks (
    bucket_id varchar, asked_at timestamp, segment varchar, features json, risk double, rationale varchar, model varchar,
    call_id varchar
);

-- one row per calibration of a model's risks against what happened; the newest of a model counts
create table if not exists headwater.llm_calibrations (
    calibrated_at timestamp, model varchar, customers bigint, buckets bigint, base_rate double, intercept double, slope double,
    skill double, error double, usable boolean, reason varchar
);

-- one row per version of a text for a slot (template, segment, bucket, with or without an offer); state: proposed | approved |
-- passed (under sampling) | rejected | refused (by the checks; problems says why); state and who decided are updated in place
create table if not exists headwater.message_texts (
    text_id varchar, slot_id varchar, version bigint, made_at timestamp, template varchar, segment varchar, features json,
    offers boolean, language varchar, subject varchar, body varchar, state varchar, problems json, model varchar, call_id varchar,
    decided_by varchar, decided_at timestamp
);

-- one row per decision by a channel with a text; nobody's name is in it: {first_name} and {last_name} are filled where it is read,
-- by the name if it is fit to be repeated (…_ok), else by `neutral` or by nothing
create table if not exists headwater.decision_messages (
    decision_id varchar, customer_id varchar, text_id varchar, source varchar,   -- source: llm | template
    reason varchar, subject varchar, body varchar, first_name_ok boolean, last_name_ok boolean, neutral varchar,
    chosen_at timestamp
);
