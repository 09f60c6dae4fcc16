-- "After the first v records of this partition, this key's counts are these": absolute numbers, never increments. Readers
-- take the newest v of each key and sum over log and partition. Clicks are indexed by verdict. kind: see TotalKind.
CREATE TABLE totals (
    partnership_id UInt64,
    kind UInt8,
    value String,
    quarter DateTime('UTC'),
    log LowCardinality(String),
    partition UInt16,
    v UInt64,
    clicks Array(UInt64),
    referred Int64,
    amount Int64
) ENGINE = ReplacingMergeTree(v)
ORDER BY (partnership_id, kind, value, quarter, log, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
