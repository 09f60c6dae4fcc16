-- One row per accepted record; its identity is (log, partition, offset). The sort key starts with partnership and time
-- of receipt, both of which the record fixes, so that a record written twice is still one row and a partner's latest
-- events are read from one place; the index on the offset serves recovery, which reads what lies beyond progress.
CREATE TABLE clicks (
    log LowCardinality(String),
    partition UInt16,
    offset UInt64,
    edge UInt64,
    epoch UInt64,
    number UInt64,
    occurred_at DateTime64(3, 'UTC'),
    received_at DateTime64(3, 'UTC'),
    program_id UInt64,
    partner_id UInt64,
    partnership_id UInt64,
    link_id UInt64,
    click_id FixedString(39),
    visitor FixedString(16),
    identity UInt8,
    window_ms Int64,
    edge_verdict UInt8,
    edge_link_unique Bool,
    verdict UInt8,
    link_unique Bool,
    signals UInt32,
    country LowCardinality(String),
    region LowCardinality(String),
    city LowCardinality(String),
    device UInt8,
    browser UInt8,
    os UInt8,
    referrer_host String,
    sub_ids Array(String),
    utm_source String,
    utm_medium String,
    utm_campaign String,
    utm_term String,
    utm_content String,
    trigger UInt8,
    user_agent String CODEC(ZSTD(3)),
    fold_version UInt16,
    INDEX by_offset offset TYPE minmax GRANULARITY 1,
    INDEX by_click_id click_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (partnership_id, received_at, log, partition, offset)
TTL toDateTime(received_at) + INTERVAL 400 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480, ttl_only_drop_parts = 1;
