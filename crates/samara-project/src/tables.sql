-- A picture of the folder, a video of it, or a frame of a video.
CREATE TABLE picture (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL DEFAULT 0,
    modified INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    width INTEGER NOT NULL DEFAULT 0,
    height INTEGER NOT NULL DEFAULT 0,
    checked INTEGER NOT NULL DEFAULT 0,
    is_gone INTEGER NOT NULL DEFAULT 0,
    is_changed INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    -- Of a video: how many frames it has, 0 until it was opened, and how many a second.
    frames INTEGER,
    rate REAL,
    -- Of a frame: of which video, and which, from 0.
    video INTEGER REFERENCES picture (id),
    frame INTEGER
) STRICT;
CREATE UNIQUE INDEX frame_of_video ON picture (video, frame) WHERE video NOT NULL;
-- Classes that are removed stay: an object that comes back may have one.
CREATE TABLE class (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    colour TEXT NOT NULL,
    position INTEGER NOT NULL,
    is_removed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX class_of_name ON class (name) WHERE NOT is_removed;
-- What is said of an object is in its record, as JSON; the columns before it are what is looked for.
CREATE TABLE object (
    id INTEGER PRIMARY KEY,
    picture INTEGER NOT NULL REFERENCES picture (id),
    -- The picture, or the video of which it is a frame.
    owner INTEGER NOT NULL REFERENCES picture (id),
    class INTEGER REFERENCES class (id),
    position INTEGER NOT NULL,
    author TEXT NOT NULL,
    predicted_iou REAL,
    area INTEGER NOT NULL,
    track INTEGER,
    is_keyframe INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX object_of_picture ON object (picture, position, class, predicted_iou, area);
CREATE INDEX object_of_owner ON object (owner, track, picture, class, predicted_iou, area);
CREATE UNIQUE INDEX object_of_track ON object (picture, track) WHERE track NOT NULL;
CREATE INDEX object_of_class ON object (class);
-- Numbers of objects are used once, also over those that are removed: their history brings them back.
CREATE TABLE counter (objects INTEGER NOT NULL) STRICT;
INSERT INTO counter VALUES (0);
-- What was done to a picture, or to a video and all its frames.
CREATE TABLE action (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL REFERENCES picture (id),
    author TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    is_undone INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX action_of_owner ON action (owner, id);
-- The way there and the way back, as JSON.
CREATE TABLE change (
    id INTEGER PRIMARY KEY,
    action INTEGER NOT NULL REFERENCES action (id) ON DELETE CASCADE,
    picture INTEGER NOT NULL REFERENCES picture (id),
    change TEXT NOT NULL
) STRICT;
CREATE INDEX change_of_action ON change (action, id);
