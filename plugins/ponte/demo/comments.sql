-- The schema `comments` of the example comment_sentiment. tables.py runs the named sections, and COPYs in between.

-- name: create --
CREATE SCHEMA IF NOT EXISTS comments;
-- No CASCADE: a view somebody built on the table stops the reload with a clear error instead of vanishing.
DROP TABLE IF EXISTS comments.comment, comments.load;

CREATE TABLE comments.comment (
    source     text NOT NULL CHECK (source IN ('tweet', 'film')),
    comment_id integer NOT NULL,
    written_on date NOT NULL,
    text       text NOT NULL CHECK (text <> ''),
    rating     float8 NOT NULL CHECK (rating BETWEEN -4 AND 4),
    rated_at   timestamptz NOT NULL,
    PRIMARY KEY (source, comment_id)
);
COMMENT ON COLUMN comments.comment.written_on IS
    'Made up, as the files have no dates: comment by comment around the 84 days from 3 March to 25 May 2014.';
COMMENT ON COLUMN comments.comment.rating IS 'Mean of what people gave it, from -4 to 4.';
COMMENT ON COLUMN comments.comment.rated_at IS 'Made up: the end of the seventh day, UTC, after it was written.';
CREATE TABLE comments.load (
    made_of   text NOT NULL,
    rows      bigint NOT NULL,
    loaded_at timestamptz NOT NULL DEFAULT now()
);
CREATE TEMPORARY TABLE staged (source text, comment_id integer, rating float8, text text) ON COMMIT DROP;

-- name: fill --
-- Around the days and not along them: the file about films has what pleased first and what did not last.
WITH dated AS (
    SELECT *, date '2014-03-03' + (comment_id - 1) % 84 AS written_on FROM staged
)
INSERT INTO comments.comment
SELECT source, comment_id, written_on, text, rating, (written_on + 8)::timestamp AT TIME ZONE 'UTC'
FROM dated
ORDER BY written_on, source, comment_id;
CREATE INDEX ON comments.comment (written_on);
ANALYZE comments.comment;
