// Package journal keeps the records of flows on this machine, so that they can be asked about later: SQLite databases in a directory, one for each day.
//
// What it is: one writer (Journal, a connmodel.Sink that never waits), and readers beside it, in this process or another (Reader). What it is not: a
// part of the data path. A disk that is full or slow, a file that somebody holds locked, a query that takes minutes: connections go on, records wait in
// a bounded queue, and what has no room in it is dropped, counted and said.
//
// # Files
//
// A file is named for the day, in UTC, on which its records came: 2026-11-28.db, and 2026-11-28.2.db when the first has grown to an eighth of what may
// be kept. Whole files are what retention deletes. Records stand in the order in which they came, which is that of their ends but for fractions of a second
// and for clocks that are set back.
//
// A row of a file is a block: the records of up to 250 ms, at most blockRecords of them. In a block the records stand twice: as a compact binary form of
// what lists, filters and decisions look at (light.go), and as the lines of JSON that they are everywhere else; both are compressed. Beside them stands what
// a query can leave out whole blocks by: times, counts, bounds, and the different words that occur (schema.go). So a record costs a few microseconds and
// a few hundred octets, and a look through a million of them a second or two.
//
// # Neighbours
//
// A store of another kind (PostgreSQL, a stream) implements Store; nothing else changes. The package storetest says what a Store has to do.
package journal
