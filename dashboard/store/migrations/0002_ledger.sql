-- The ledger. Ids of 64 random bits (edges, epochs) are stored as signed integers of the same bits.

-- How far each partition of the conversions log is in these tables: the next offset.
CREATE TABLE ledger_offsets (
  log         TEXT NOT NULL,
  partition   INTEGER NOT NULL,
  next_offset BIGINT NOT NULL,
  PRIMARY KEY (log, partition)
);

-- The last number and the last tick of each epoch of an edge in a partition.
CREATE TABLE ledger_watermarks (
  log         TEXT NOT NULL,
  partition   INTEGER NOT NULL,
  edge        BIGINT NOT NULL,
  epoch       BIGINT NOT NULL,
  last_number BIGINT NOT NULL,
  PRIMARY KEY (log, partition, edge, epoch)
);
CREATE TABLE ledger_gaps (
  log          TEXT NOT NULL,
  partition    INTEGER NOT NULL,
  edge         BIGINT NOT NULL,
  epoch        BIGINT NOT NULL,
  first_number BIGINT NOT NULL,
  last_number  BIGINT NOT NULL,
  PRIMARY KEY (log, partition, edge, epoch, first_number)
);
CREATE TABLE ledger_ticks (
  log       TEXT NOT NULL,
  partition INTEGER NOT NULL,
  edge      BIGINT NOT NULL,
  tick_ms   BIGINT NOT NULL,
  PRIMARY KEY (log, partition, edge)
);

-- A person, known by the merchant's key, with the first signup and the first other conversion that a link is credited
-- for (the touch), by the time they happened. What is credited for each: the click's time and the link's owner; 0 = none.
CREATE TABLE customers (
  id                    BIGINT PRIMARY KEY,
  program_id            BIGINT NOT NULL,
  customer_key          TEXT NOT NULL,
  signup_id             BYTEA,
  signup_ms             BIGINT NOT NULL,
  signup_click_ms       BIGINT NOT NULL,
  signup_link_id        BIGINT NOT NULL,
  signup_partner_id     BIGINT NOT NULL,
  signup_partnership_id BIGINT NOT NULL,
  touch_id              BYTEA,
  touch_ms              BIGINT NOT NULL,
  touch_click_ms        BIGINT NOT NULL,
  touch_link_id         BIGINT NOT NULL,
  touch_partner_id      BIGINT NOT NULL,
  touch_partnership_id  BIGINT NOT NULL,
  UNIQUE (program_id, customer_key)
);

-- Every conversion, counted or not. content is a hash of what was reported; click says what became of its click id, and
-- what follows it is credited for when it is attributed. customer_id is 0 for one without a customer key.
CREATE TABLE conversions (
  id              BYTEA PRIMARY KEY,
  content         BYTEA NOT NULL,
  program_id      BIGINT NOT NULL,
  type            INTEGER NOT NULL,
  customer_id     BIGINT NOT NULL,
  amount          BIGINT NOT NULL,
  currency        TEXT NOT NULL,
  occurred_ms     BIGINT NOT NULL,
  received_ms     BIGINT NOT NULL,
  idempotency_key TEXT NOT NULL,
  click           TEXT NOT NULL,
  click_ms        BIGINT NOT NULL,
  link_id         BIGINT NOT NULL,
  partner_id      BIGINT NOT NULL,
  partnership_id  BIGINT NOT NULL
);
CREATE INDEX conversions_customer ON conversions (customer_id);

-- Conversions that came under a used idempotency key with other content.
CREATE TABLE conversion_conflicts (
  id          BYTEA NOT NULL,
  content     BYTEA NOT NULL,
  received_ms BIGINT NOT NULL,
  payload     BYTEA NOT NULL,
  PRIMARY KEY (id, content)
);

-- The entries: every change of a number. Sums of them are the numbers; rows are never changed.
CREATE TABLE ledger_entries (
  id             BIGINT PRIMARY KEY,
  conversion_id  BYTEA NOT NULL,
  customer_id    BIGINT NOT NULL,
  kind           INTEGER NOT NULL,
  program_id     BIGINT NOT NULL,
  partner_id     BIGINT NOT NULL,
  partnership_id BIGINT NOT NULL,
  link_id        BIGINT NOT NULL,
  count          BIGINT NOT NULL,
  amount         BIGINT NOT NULL,
  currency       TEXT NOT NULL,
  occurred_ms    BIGINT NOT NULL,
  received_ms    BIGINT NOT NULL
);
CREATE INDEX ledger_entries_customer ON ledger_entries (customer_id, conversion_id);
CREATE INDEX ledger_entries_partnership ON ledger_entries (partnership_id, occurred_ms);

-- The outbox of entries is an edge: its id, its epoch, and the last number of each partition of the ledger log.
CREATE TABLE ledger_edge (
  id         INTEGER PRIMARY KEY,
  edge       BIGINT NOT NULL,
  epoch      BIGINT NOT NULL
);
CREATE TABLE ledger_numbers (
  log         TEXT NOT NULL,
  partition   INTEGER NOT NULL,
  epoch       BIGINT NOT NULL,
  last_number BIGINT NOT NULL,
  PRIMARY KEY (log, partition)
);

-- Records that Kafka has not acknowledged, in the order in which they go out. They are sent byte for byte.
CREATE TABLE ledger_outbox (
  id        BIGINT PRIMARY KEY,
  log       TEXT NOT NULL,
  partition INTEGER NOT NULL,
  header    BYTEA NOT NULL,
  key       BYTEA NOT NULL,
  value     BYTEA NOT NULL
);

-- Records of the conversions log that nobody could read.
CREATE TABLE ledger_poison (
  log          TEXT NOT NULL,
  partition    INTEGER NOT NULL,
  "offset"     BIGINT NOT NULL,
  reason       TEXT NOT NULL,
  header       BYTEA NOT NULL,
  payload      BYTEA NOT NULL,
  payload_size BIGINT NOT NULL,
  PRIMARY KEY (log, partition, "offset")
);
