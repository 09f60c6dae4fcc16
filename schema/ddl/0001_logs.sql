-- Which Kafka cluster and how many partitions each log was first seen with. A log that comes from another cluster or
-- has another number of partitions is refused.
CREATE TABLE logs (
    log LowCardinality(String),
    cluster_id String,
    partitions UInt16,
    registered_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY log
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 480;
