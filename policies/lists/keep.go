package lists

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"viaduct/policies/source"
)

// The file of a copy is a head of fixed size, with what is known of the copy in JSON and the checksum of that, and behind it what the server sent, as it came. The head is
// written last, when the checksum is known, and the file gets its name after that: what is there under the name is whole.

const (
	headSize  = 4096
	headMagic = "viaduct list 1\n"
)

// meta is what is known of a copy.
type meta struct {
	source.Validators
	URL         string    `json:"url"`
	ContentType string    `json:"content_type,omitempty"`
	Time        time.Time `json:"time"` // when it was got
	Length      int64     `json:"length"`
	SHA256      string    `json:"sha256"`
}

// KeptName is the name of the file that keeps the copy of a URL. It does not depend on the name of the list, which may change.
func KeptName(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:12]) + ".list"
}

// fill writes what the server sends behind the place of the head.
func (m *meta) fill(f io.WriteSeeker, r io.Reader) error {
	if _, err := f.Seek(headSize, io.SeekStart); err != nil {
		return err
	}
	h := sha256.New()
	var err error
	m.Length, err = io.CopyBuffer(io.MultiWriter(f, h), struct{ io.Reader }{r}, make([]byte, 64<<10))
	m.SHA256 = hex.EncodeToString(h.Sum(nil))
	return err
}

// finish writes the head, and has all of it on the disk when it returns.
func (m *meta) finish(f *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	head := bytes.Repeat([]byte{'\n'}, headSize)
	sum := sha256.Sum256(b)
	b = append([]byte(hex.EncodeToString(sum[:])+"\n"), b...)
	if len(headMagic)+len(b) > headSize-1 {
		return errors.New("what is to be noted of it is too long")
	}
	copy(head[copy(head, headMagic):], b)
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	return f.Sync()
}

// errNoCopy says that none has been kept.
var errNoCopy = errors.New("no copy has been kept")

// open opens a copy that was kept of a URL, at the beginning of its text.
func open(path, url string) (*os.File, *meta, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errNoCopy
	} else if err != nil {
		return nil, nil, err
	}
	m, err := readHead(f)
	if err == nil && m.URL != url {
		err = errors.New("it is of another URL")
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, m, nil
}

func readHead(f *os.File) (*meta, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, errors.New("its head is not whole")
	}
	text, ok := bytes.CutPrefix(bytes.TrimRight(head, "\n"), []byte(headMagic))
	if !ok {
		return nil, errors.New("it is of another kind or version")
	}
	sum, text, _ := bytes.Cut(text, []byte{'\n'})
	if real := sha256.Sum256(text); hex.EncodeToString(real[:]) != string(sum) {
		return nil, errChecksum
	}
	var m meta
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, errors.New("its head cannot be read")
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() != headSize+m.Length {
		return nil, fmt.Errorf("it has %d bytes instead of %d", st.Size(), headSize+m.Length)
	}
	if st.ModTime().After(m.Time) {
		m.Time = st.ModTime() // since then the server has said that it has not changed
	}
	return &m, nil
}

// ReadKept reads the copy that was kept of a URL, and says when it was last known to be the server's.
func ReadKept(path, url string, o Options) (*Set, time.Time, error) {
	f, m, err := open(path, url)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	set, err := m.read(f, o)
	return set, m.Time, err
}

// read makes a set of the text of a copy, and holds it against its checksum.
func (m *meta) read(f io.Reader, o Options) (*Set, error) {
	h := hashing{io.LimitReader(f, m.Length), sha256.New()}
	set, err := Parse(h, m.ContentType, o)
	if _, cerr := io.Copy(io.Discard, h); cerr != nil {
		return nil, cerr
	}
	if hex.EncodeToString(h.sum.Sum(nil)) != m.SHA256 {
		return nil, errChecksum
	}
	return set, err
}

var errChecksum = errors.New("its checksum is wrong")

type hashing struct {
	r   io.Reader
	sum hash.Hash
}

func (h hashing) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	h.sum.Write(b[:n])
	return n, err
}

// restore uses the copy that was kept, until the server has been asked. One that is broken is set aside, for whoever wants to know how it came to be.
func (s *Source) restore() {
	if s.o.Keep == "" {
		return
	}
	s.sweep()
	f, m, err := open(s.o.Keep, s.o.URL)
	if errors.Is(err, errNoCopy) {
		return
	}
	if err == nil {
		defer f.Close()
		one.Lock()
		begun := time.Now()
		var set *Set
		set, err = m.read(f, s.o.List)
		one.Unlock()
		if err == nil {
			s.take(set, *m, time.Since(begun))
			s.tell.Say(false, "list %s: the copy of %s is in use until the server answers, with %s", s.o.Name, m.Time.Format(time.RFC3339), set.Report)
			return
		}
	}
	s.broken = fmt.Sprintf("the copy that was kept cannot be used: %v", err)
	if m == nil && !errors.Is(err, fs.ErrPermission) || errors.Is(err, errChecksum) {
		aside := s.o.Keep + ".broken"
		if rerr := os.Rename(s.o.Keep, aside); rerr == nil {
			s.tell.Say(true, "list %s: %s; it has been set aside as %s", s.o.Name, s.broken, aside)
			return
		}
	}
	s.tell.Say(true, "list %s: %s", s.o.Name, s.broken)
}

// temp makes the file that a copy is written to: beside the one that is kept, or, where none is kept, one without a name.
func (s *Source) temp() (f *os.File, path string, err error) {
	if s.o.Keep != "" {
		dir, base := filepath.Split(s.o.Keep)
		if err = os.MkdirAll(dir, 0o700); err == nil {
			f, err = os.CreateTemp(dir, "."+base+"-*")
		}
		if err == nil {
			return f, f.Name(), nil
		}
		s.tell.Say(true, "list %s: the copy for the next start cannot be kept: %v", s.o.Name, err)
	}
	if f, err = os.CreateTemp("", "viaduct-list-*"); err == nil {
		os.Remove(f.Name())
	}
	return f, "", err
}

// sweep removes what a process left that was killed while it wrote.
func (s *Source) sweep() {
	dir, base := filepath.Split(s.o.Keep)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "."+base+"-") {
			continue
		}
		if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > leftover {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// leftover is how old a half-written copy is that nobody writes any more: no look takes that long.
const leftover = time.Hour
