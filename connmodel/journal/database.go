package journal

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// errNewer says that a file was written by a newer version of this program.
var errNewer = errors.New("journal: the file is of a newer version")

// errForeign says that a file is a database, but none of a journal.
var errForeign = errors.New("journal: the file is a database of something else")

// openDatabase opens one file with one connection.
func openDatabase(path, mode string, pragmas ...string) (*sql.DB, error) {
	v := url.Values{"mode": {mode}, "_pragma": pragmas}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: v.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

// openWriting opens path for the writer, and makes it when it is not there.
//
// synchronous(NORMAL) with a write-ahead log: a process that is killed loses nothing that was committed, a machine that loses power loses the last commits
// and never the file.
func openWriting(path string) (*sql.DB, error) {
	if err := peek(path); err != nil {
		return nil, err
	}
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil { // SQLite would take the mode from the umask
		return nil, fmt.Errorf("journal: %w", err)
	} else if err := f.Close(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	db, err := openDatabase(path, "rw", "busy_timeout(200)", "journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(1000)")
	if err != nil {
		return nil, err
	}
	if err := prepare(db); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// peek looks at a file before anything is changed in it: one of a newer version, or of somebody else, stays as it is.
func peek(path string) error {
	if st, err := os.Stat(path); err != nil || st.Size() == 0 {
		return nil
	}
	db, err := openDatabase(path, "ro", "busy_timeout(200)")
	if err != nil {
		return err
	}
	defer db.Close()
	switch version, err := versionOf(db); {
	case damaged(err):
		return err
	case err == nil && version > schemaVersion:
		return errNewer
	}
	return nil // opening it for writing says what else is wrong
}

// prepare makes the tables of a new file, and brings an old one up to date.
func prepare(db *sql.DB) error {
	version, err := versionOf(db)
	switch {
	case err != nil:
		return err
	case version > schemaVersion:
		return errNewer
	case version == schemaVersion:
		return nil
	}
	if version == 0 {
		return change(db, schemaVersion, schema)
	}
	return migrate(db, version, schemaVersion, migrations)
}

// migrate brings a file of one version to another, each step by itself: steps[i] leads from version i+1 to i+2.
func migrate(db *sql.DB, from, to int, steps []string) error {
	for v := from; v < to; v++ {
		if err := change(db, v+1, steps[v-1]); err != nil {
			return fmt.Errorf("journal: a file of version %d cannot be brought to version %d: %w", v, v+1, err)
		}
	}
	return nil
}

// change runs statements that make a file one of the version, all or none of them.
func change(db *sql.DB, version int, statements string) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(statements); err != nil {
		return err
	}
	if _, err := tx.Exec(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version)); err != nil {
		return err
	}
	return tx.Commit()
}

// versionOf returns the version of a file; 0 = it is new and empty.
func versionOf(db *sql.DB) (version int, err error) {
	var app, tables int
	if err := db.QueryRow("PRAGMA application_id").Scan(&app); err != nil {
		return 0, err
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return 0, err
	}
	if err := db.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return 0, err
	}
	if app != applicationID && (app != 0 || version != 0 || tables != 0) {
		return 0, errForeign
	}
	return version, nil
}

// openReading opens path for reading, whether or not its writer is there. A directory that cannot be written to has no room for the index of the log:
// then a file without a log is read as one that nobody changes.
func openReading(path string) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	db, err := openDatabase(path, "ro", "busy_timeout(2000)", "query_only(1)")
	if err != nil {
		return nil, err
	}
	version, err := versionOf(db)
	if code(err) == sqlite3.SQLITE_CANTOPEN || code(err) == sqlite3.SQLITE_READONLY {
		if st, serr := os.Stat(path + "-wal"); errors.Is(serr, fs.ErrNotExist) || serr == nil && st.Size() == 0 {
			db.Close()
			if db, err = openImmutable(path); err != nil {
				return nil, err
			}
			version, err = versionOf(db)
		}
	}
	switch {
	case err != nil:
	case version > schemaVersion:
		err = errNewer
	case version == 0:
		err = errEmpty
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// errEmpty says that a file has just been made and has no tables yet.
var errEmpty = errors.New("journal: the file is empty")

func openImmutable(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?mode=ro&immutable=1")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// code is the primary result code of an error of SQLite; 0 = it is none.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// damaged reports whether err says that a file is no use any more.
func damaged(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB || errors.Is(err, errForeign) || errors.Is(err, errLight)
}
