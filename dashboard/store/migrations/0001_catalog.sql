-- Times are milliseconds since the Unix epoch, states the numbers of schema.State, flags 0 or 1, hashes SHA-256, lists JSON.
-- The statements are what SQLite and PostgreSQL both understand.

-- The last number given out of each kind of id, and of the catalog's version.
CREATE TABLE counters (
  name  TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);

CREATE TABLE programs (
  id                   BIGINT PRIMARY KEY,
  key                  TEXT NOT NULL UNIQUE,
  name                 TEXT NOT NULL,
  state                INTEGER NOT NULL,
  links_enabled        INTEGER NOT NULL,
  fallback_url         TEXT NOT NULL,
  click_id_param       TEXT NOT NULL,
  partner_param        TEXT NOT NULL,
  cookie_window_ms     BIGINT NOT NULL,
  hash_window_ms       BIGINT NOT NULL,
  cookies_disabled     INTEGER NOT NULL,
  time_zone            TEXT NOT NULL,
  opt_out_param        TEXT NOT NULL,
  excluded_networks    TEXT NOT NULL,
  allowed_destinations TEXT NOT NULL,
  passthrough          TEXT NOT NULL
);

-- A host belongs to one program for ever, because its slugs do.
CREATE TABLE program_hosts (
  host       TEXT PRIMARY KEY,
  program_id BIGINT NOT NULL REFERENCES programs (id),
  position   INTEGER NOT NULL
);
CREATE INDEX program_hosts_program ON program_hosts (program_id, position);

CREATE TABLE conversion_keys (
  hash       BYTEA PRIMARY KEY,
  program_id BIGINT NOT NULL REFERENCES programs (id)
);
CREATE INDEX conversion_keys_program ON conversion_keys (program_id);

CREATE TABLE groups_of_partners (
  id         BIGINT PRIMARY KEY,
  program_id BIGINT NOT NULL REFERENCES programs (id),
  key        TEXT NOT NULL,
  name       TEXT NOT NULL,
  offers     TEXT NOT NULL,
  UNIQUE (program_id, key)
);

-- What the default links of a group's partners look like; position 1 to 3.
CREATE TABLE default_links (
  group_id    BIGINT NOT NULL REFERENCES groups_of_partners (id),
  position    INTEGER NOT NULL,
  title       TEXT NOT NULL,
  destination TEXT NOT NULL,
  PRIMARY KEY (group_id, position)
);

CREATE TABLE partners (
  id            BIGINT PRIMARY KEY,
  email         TEXT NOT NULL UNIQUE,
  name          TEXT NOT NULL,
  password_hash TEXT NOT NULL
);

CREATE TABLE api_keys (
  hash       BYTEA PRIMARY KEY,
  partner_id BIGINT NOT NULL REFERENCES partners (id)
);
CREATE INDEX api_keys_partner ON api_keys (partner_id);

CREATE TABLE sessions (
  hash       BYTEA PRIMARY KEY,
  partner_id BIGINT NOT NULL REFERENCES partners (id),
  expires_ms BIGINT NOT NULL
);
CREATE INDEX sessions_expiry ON sessions (expires_ms);

CREATE TABLE partnerships (
  id          BIGINT PRIMARY KEY,
  program_id  BIGINT NOT NULL REFERENCES programs (id),
  partner_id  BIGINT NOT NULL REFERENCES partners (id),
  group_id    BIGINT NOT NULL REFERENCES groups_of_partners (id),
  partner_key TEXT NOT NULL,
  state       INTEGER NOT NULL,
  UNIQUE (partner_id, program_id),
  UNIQUE (program_id, partner_key)
);
CREATE INDEX partnerships_group ON partnerships (group_id);

-- Rows are never removed, so that a slug is never used again. The position is that of the group's default link, 0 for
-- a custom one.
CREATE TABLE links (
  id             BIGINT PRIMARY KEY,
  partnership_id BIGINT NOT NULL REFERENCES partnerships (id),
  kind           INTEGER NOT NULL,
  position       INTEGER NOT NULL,
  host           TEXT NOT NULL,
  slug           TEXT NOT NULL,
  destination    TEXT NOT NULL,
  title          TEXT NOT NULL,
  state          INTEGER NOT NULL,
  created_ms     BIGINT NOT NULL,
  version        BIGINT NOT NULL,
  UNIQUE (host, slug)
);
CREATE INDEX links_partnership ON links (partnership_id);

-- The newest record of every entity that edges know, in the order of its change. The relay sends them.
CREATE TABLE catalog_outbox (
  key     TEXT PRIMARY KEY,
  version BIGINT NOT NULL UNIQUE,
  record  BYTEA NOT NULL
);

-- Who does what only one process may do at a time.
CREATE TABLE leases (
  name     TEXT PRIMARY KEY,
  holder   TEXT NOT NULL,
  until_ms BIGINT NOT NULL
);
