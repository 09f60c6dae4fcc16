-- "All facts up to v of this partition are stored": written last, read first. Watermarks (the last number of each edge and
-- epoch), open gaps between them, and each edge's tick, as arrays that run in parallel.
CREATE TABLE progress (
    log LowCardinality(String),
    partition UInt16,
    v UInt64,
    fold_version UInt16,
    edges Array(UInt64),
    epochs Array(UInt64),
    lasts Array(UInt64),
    gap_edges Array(UInt64),
    gap_epochs Array(UInt64),
    gap_firsts Array(UInt64),
    gap_lasts Array(UInt64),
    tick_edges Array(UInt64),
    tick_ms Array(Int64),
    written_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(v) ORDER BY (log, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
