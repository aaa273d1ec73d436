-- The tables of ctship's target clickhouse://HOST:PORT/DB, see ctship(8), CLICKHOUSE.  ctwho
-- --store asks them.
--
-- Checked with ClickHouse 26.9 (chdb-core 26.9.0): 13.1 bytes a row, of 1,145,086 connections of a
-- router in hourly segments with times in ms.  Run it once, in the database DB:
--     clickhouse-client --database DB --multiquery <clickhouse.sql
-- The three intervals are max_age of [expire]: what the law allows.

-- A row for each connection, or part of one that went on in another segment.  `upload` is what one
-- run of ctship sent; only rows whose upload is in `counted` count.  A part of a table is one
-- segment: PARTITION BY is of its begin, never of a row's.
CREATE TABLE IF NOT EXISTS connections
(
    upload UUID CODEC(ZSTD(1)),
    segment_begin DateTime('UTC') CODEC(ZSTD(1)),
    router LowCardinality(String),
    start DateTime64(6, 'UTC') COMMENT 'the end if it is not known' CODEC(Delta, ZSTD(3)),
    duration Int64 COMMENT 'us, 0 if the start or the end is not known' CODEC(T64, ZSTD(3)),
    l4proto UInt8 CODEC(ZSTD(3)),
    inside IPv6 COMMENT 'source of the original direction' CODEC(ZSTD(3)),
    inside_port UInt16 CODEC(ZSTD(3)),
    public IPv6 COMMENT 'destination of replies: after SNAT the public address' CODEC(ZSTD(3)),
    port_shift UInt16 COMMENT 'public port minus inside_port' CODEC(ZSTD(3)),
    remote IPv6 COMMENT 'destination of the original direction' CODEC(ZSTD(3)),
    remote_port UInt16 CODEC(ZSTD(3)),
    behind IPv6 COMMENT 'source of replies: behind DNAT, :: if it is remote' CODEC(ZSTD(3)),
    behind_shift UInt16 COMMENT 'its port minus remote_port' CODEC(ZSTD(3)),
    status UInt32 CODEC(ZSTD(3)),
    zone UInt16 CODEC(ZSTD(3)),
    orig_zone UInt16 CODEC(ZSTD(3)),
    reply_zone UInt16 CODEC(ZSTD(3)),
    mark UInt32 CODEC(ZSTD(3)),
    orig_packets UInt64 CODEC(T64, ZSTD(3)),
    orig_bytes UInt64 CODEC(T64, ZSTD(3)),
    reply_packets UInt64 CODEC(T64, ZSTD(3)),
    reply_bytes UInt64 CODEC(T64, ZSTD(3)),
    tcp_state UInt8 CODEC(ZSTD(3)),
    start_source UInt8 COMMENT '0: not known, see ctlog(5)' CODEC(ZSTD(3)),
    end_source UInt8 CODEC(ZSTD(3)),
    seen UInt8 COMMENT 'which events made it' CODEC(ZSTD(3)),
    present UInt32 COMMENT 'which values are known' CODEC(ZSTD(3)),
    id UInt32 COMMENT 'of the kernel, of parts' CODEC(ZSTD(3)),
    time Int64 COMMENT 'ns, last event of a part that is open' CODEC(Delta, ZSTD(3)),
    family UInt8 COMMENT '2 IPv4, 10 IPv6' CODEC(ZSTD(3)),
    block UInt16 COMMENT 'of the segment' CODEC(ZSTD(3)),
    turn UInt32 COMMENT 'rows of the same flow before it in the block' CODEC(ZSTD(3)),
    held UInt8 DEFAULT 0 COMMENT '1: a hold keeps it' CODEC(ZSTD(3)),
    public_port UInt16 ALIAS toUInt16(inside_port + port_shift),
    end DateTime64(6, 'UTC') ALIAS start + toIntervalMicrosecond(duration),
    PROJECTION uploads (SELECT segment_begin, upload, count() GROUP BY segment_begin, upload)
)
ENGINE = MergeTree
PARTITION BY toDate(segment_begin)
ORDER BY (public, l4proto, inside, start)
TTL segment_begin + INTERVAL 90 DAY DELETE WHERE held = 0;

-- A row for each upload that is whole, written after its connections.  It has no connection, so it
-- stays for two years more: as the receipt of those that were deleted.
CREATE TABLE IF NOT EXISTS segments
(
    router LowCardinality(String),
    chain String,
    sequence UInt64,
    upload UUID,
    uploaded DateTime64(6, 'UTC') DEFAULT now64(6),
    last_hash String,
    rows UInt64,
    begin DateTime64(9, 'UTC'),
    end DateTime64(9, 'UTC'),
    header String COMMENT 'JSON, see ctlog(5)',
    gaps String COMMENT 'JSON: what is missing, and why' CODEC(ZSTD(3)),
    marks String COMMENT 'JSON: dumps, heartbeats, the clock' CODEC(ZSTD(3)),
    version UInt16 DEFAULT 1 COMMENT 'of this row: ctwho asks 2',
    recorded DateTime64(9, 'UTC') DEFAULT begin COMMENT 'when it was begun',
    span_begin DateTime64(9, 'UTC') DEFAULT begin,
    span_end DateTime64(9, 'UTC') DEFAULT end,
    previous_hash String COMMENT 'last hash of the segment before',
    hashes String COMMENT 'its last hash, and those of the segments that it replaced',
    frames String COMMENT 'the segment without its connections' CODEC(ZSTD(3)),
    expires DateTime('UTC') DEFAULT toDateTime(recorded, 'UTC') + INTERVAL 90 DAY
)
ENGINE = MergeTree
PARTITION BY toDate(recorded)
ORDER BY (router, chain, sequence, uploaded)
TTL toDateTime(recorded) + INTERVAL 90 DAY + INTERVAL 2 YEAR
SETTINGS ttl_only_drop_parts = 1;

-- The one upload of each segment that counts: that which was whole last.
CREATE VIEW IF NOT EXISTS counted AS
SELECT * FROM segments ORDER BY uploaded DESC, upload DESC LIMIT 1 BY router, chain, sequence;

-- The connections that count, each once.
CREATE VIEW IF NOT EXISTS held AS
SELECT *, public_port, end FROM connections WHERE upload IN (SELECT upload FROM counted);

-- Who had 192.0.2.1:40000 at a time?  ctwho --store clickhouse://HOST/DB says it with what the
-- answer is worth.  By hand, a connection that is open, or whose start is not known, can have had it
-- too; and `gaps` of that time must be read before anybody is accused:
--     SELECT router, IPv6NumToString(inside), inside_port, start, end FROM held
--     WHERE public = toIPv6('192.0.2.1') AND public_port = 40000
--       AND start <= '2026-11-24 05:00:06' AND (duration = 0 OR end >= '2026-11-24 05:00:05');
--
-- Every day: delete half uploads that cannot be going on any more.  A whole one that another content
-- took the place of stays, as long as all others: ctwho names it.
--     ALTER TABLE connections DELETE WHERE segment_begin < now() - INTERVAL 2 DAY
--       AND upload NOT IN (SELECT upload FROM segments);
--
-- A hold of ctexpire is on the router and on folders.  Here it is this; 0 releases it:
--     ALTER TABLE connections UPDATE held = 1 WHERE router = 'edge1'
--       AND segment_begin BETWEEN '2026-11-24 00:00:00' AND '2026-11-25 00:00:00';
--
-- Users.  A router that is broken into must not read, change or delete, nor speak for another one:
-- one user a router, with its name and INSERT alone.  A row policy does not restrict INSERT, so a
-- constraint does; who only asks reads, and can be kept to some routers.
--     ALTER TABLE connections ADD CONSTRAINT own CHECK router = currentUser();
--     ALTER TABLE segments ADD CONSTRAINT own CHECK router = currentUser();
--     CREATE USER edge1 IDENTIFIED WITH sha256_password BY 'secret';
--     GRANT INSERT ON DB.connections TO edge1;
--     GRANT INSERT ON DB.segments TO edge1;
--     CREATE USER police IDENTIFIED WITH sha256_password BY 'secret' SETTINGS readonly = 1;
--     GRANT SELECT ON DB.* TO police;
--     CREATE ROW POLICY some ON DB.segments USING router IN ('edge1', 'edge2') TO police;
--     CREATE ROW POLICY some ON DB.connections USING router IN ('edge1', 'edge2') TO police;
--
-- A cluster (checked for syntax only): ENGINE = ReplicatedMergeTree in both tables, and
--     CREATE TABLE connections_all AS connections
--         ENGINE = Distributed('cluster', currentDatabase(), connections, cityHash64(router));
--     CREATE TABLE segments_all AS segments
--         ENGINE = Distributed('cluster', currentDatabase(), segments, cityHash64(router));
--
-- Tables of an earlier ctrecorder: make new ones in a new database, delete ctship.shipped in the
-- archive of each router, and ctship sends all that it has again.
