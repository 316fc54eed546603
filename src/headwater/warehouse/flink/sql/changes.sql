-- the log's topic of database changes, masked before they were stored; one reading of it serves every table
create temporary table `changes` (
    `kind` string,
    `table` string,
    `op` string,
    `key` row<`customerid` int, `addressid` string, `productid` int, `orderid` int, `orderitemid` int>,
    `row` row<
        `customerid` int, `customername` string, `email` string, `segment` string,
        `shipping_address_id` string, `billing_address_id` string,
        `addressid` string, `street` string, `city` string, `state` string, `postalcode` string, `country` string,
        `productid` int, `brand` string, `productname` string, `category` string, `description` string,
        `color` string, `size` string, `price` decimal(10, 2),
        `orderid` int, `orderdate` timestamp_ltz(6), `status` string,
        `orderitemid` int, `quantity` int
    >,
    `lsn` bigint,
    `at` timestamp_ltz(6),
    `headers` map<string, bytes> metadata from 'headers',
    `event_time` as cast(`at` as timestamp_ltz(3)),
    watermark for `event_time` as `event_time` - interval '5' second
) with (
    'connector' = 'kafka',
    'topic' = '{{ changes_topic }}',
{{ connection }}
    'properties.group.id' = '{{ flink.group }}',
    'properties.commit.offsets.on.checkpoint' = 'true',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
{% if bounded %}
    'scan.bounded.mode' = 'latest-offset',
{% endif %}
    'scan.watermark.idle-timeout' = '30 s',
    'format' = 'json',
    'json.timestamp-format.standard' = 'ISO-8601'
);

create temporary view `changed_rows` as
select `table`, `op`, `key`, `row`, `lsn`, cast(`at` as timestamp(6)) as `at`
from `changes`
where
    `kind` = 'change' and `op` in ('r', 'c', 'u', 'd')
    and decode(`headers`['source'], 'UTF-8') = '{{ source }}';
{% for table, key, columns in tables %}

-- {{ table }} as they are now: of each key the change with the highest position in the database's journal
create temporary view `{{ table }}_now` as
select {{ columns | join(', ') }}, `updated_at`
from (
    select
        `key`.`{{ key }}` as `{{ key }}`,
{% for column in columns if column != key %}
        {% if column == 'orderdate' %}cast(`row`.`orderdate` as timestamp(6)){% else %}`row`.`{{ column }}`{% endif %} as `{{ column }}`,
{% endfor %}
        `at` as `updated_at`,
        `op`,
        row_number() over (partition by `key`.`{{ key }}` order by `lsn` desc) as `rank_number`
    from `changed_rows`
    where `table` = '{{ table }}'
)
where `rank_number` = 1 and `op` <> 'd';
{% endfor %}
{% for table, key, columns in versions %}

-- every version of {{ table }}; a deletion is one
create temporary view `{{ table }}_versions` as
select
    `key`.`{{ key }}` as `{{ key }}`,
{% for column in columns %}
    `row`.`{{ column }}` as `{{ column }}`,
{% endfor %}
    `at` as `valid_from`,
    `op` = 'd' as `is_deleted`,
    `lsn`
from `changed_rows`
where `table` = '{{ table }}';
{% endfor %}
