CREATE TABLE t (id INTEGER PRIMARY KEY, word TEXT UNIQUE);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
INSERT INTO t SELECT i, printf('w%04d', i) FROM n;
COMMIT;
CREATE INDEX by_word ON t (word);
SELECT 'rows', count(*) FROM t;
SELECT 'sum', sum(id) FROM t;
SELECT word, id FROM t WHERE word = 'w0042';
BEGIN;
DELETE FROM t WHERE id % 2 = 0;
ROLLBACK;
SELECT 'after rollback', count(*) FROM t;
