-- When and at which offset a visitor was last counted, per partnership (link_id 0) and per link. Kept for ever: under a
-- window without end the first count decides every later one.
CREATE TABLE visitors (
    log LowCardinality(String),
    partition UInt16,
    partnership_id UInt64,
    visitor FixedString(16),
    link_id UInt64,
    counted_at DateTime64(3, 'UTC'),
    position UInt64,
    window_ms Int64,
    INDEX by_position position TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree(position)
ORDER BY (log, partition, partnership_id, visitor, link_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
