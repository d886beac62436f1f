package lists

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"runtime"
	"strings"
	"time"
	"unicode"

	"viaduct/policies/match"
)

// Options say how a list is to be read.
type Options struct {
	Networks   bool // it holds networks; else hosts
	Format     Format
	Subdomains bool  // every name stands for those below it, too
	MaxSize    int64 // of the text, in bytes; 0 = DefaultSize
	gentle     bool  // it may take its time
}

// DefaultSize bounds a list whose policy says nothing: some three million names.
const DefaultSize = 64 << 20

// MaxLine is the longest line that may hold an entry, in bytes.
const MaxLine = 1024

// Report is what reading a list found.
type Report struct {
	Entries     int    // that the list has, exceptions among them
	Exceptions  int    // entries that take others back
	Unsupported int    // rules that are about more than hosts, and were left out
	Wrong       int    // lines that are no entries, and were left out
	FirstWrong  string // "line 7: ..."
	Size        int64  // of the text, in bytes
	Names       int    // different names or networks in the index
}

// Parse reads a list, which may be compressed by gzip. contentType is what the web server called it; "" = it comes from a file. The text may be no
// longer than o.MaxSize; lines that are no entries are left out and counted. What cannot be a list is an error that says so: a web page, bytes that
// are no text, something that is mostly no entries, nothing at all.
func Parse(r io.Reader, contentType string, o Options) (*Set, error) {
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultSize
	}
	if o.Format == "" {
		o.Format = Auto
	}
	text, err := unpack(r)
	if err != nil {
		return nil, err
	}
	p := &parser{o: o, limit: o.MaxSize}
	p.in = bufio.NewReaderSize(&bounded{r: text, left: &p.limit, most: o.MaxSize}, 64<<10)
	if err := p.sniff(contentType); err != nil {
		return nil, err
	}
	if err := p.run(); err != nil {
		return nil, err
	}
	return p.finish()
}

// maxLayers is how often gzip may lie in gzip: a file that is compressed and sent with a Content-Encoding.
const maxLayers = 2

// unpack takes gzip off, which is known by its first bytes (RFC 1952, section 2.3.1): what servers say of it is wrong too often.
func unpack(r io.Reader) (io.Reader, error) {
	for range maxLayers {
		b := bufio.NewReaderSize(r, 32<<10)
		r = b
		if magic, _ := b.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
			break
		}
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("the gzip data is broken: %w", brokenOff(err))
		}
		r = gzipped{z}
	}
	return r, nil
}

type gzipped struct{ z *gzip.Reader }

func (g gzipped) Read(b []byte) (int, error) {
	n, err := g.z.Read(b)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("the gzip data is broken: %w", brokenOff(err))
	}
	return n, err
}

func brokenOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return errors.New("it breaks off")
	}
	return err
}

// SizeError says that a list is longer than it may be.
type SizeError struct{ Most int64 }

func (e *SizeError) Error() string {
	return fmt.Sprintf("it is longer than %s (max_size)", sizeText(e.Most))
}

func sizeText(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// bounded ends in an error where there is more than may be.
type bounded struct {
	r    io.Reader
	left *int64
	most int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > *b.left+1 {
		p = p[:*b.left+1]
	}
	n, err := b.r.Read(p)
	if *b.left -= int64(n); *b.left < 0 {
		return 0, &SizeError{b.most}
	}
	return n, err
}

type parser struct {
	o        Options
	in       *bufio.Reader
	limit    int64
	line     int
	hosts    match.HostBuilder
	networks match.NetworkSetBuilder
	report   Report
}

// sniff refuses what its first bytes show to be no list.
func (p *parser) sniff(contentType string) error {
	head, err := p.in.Peek(4096)
	if err != nil && err != io.EOF && len(head) == 0 {
		return err
	}
	if b, ok := bytes.CutPrefix(head, []byte{0xef, 0xbb, 0xbf}); ok {
		head = b
		if _, err := p.in.Discard(3); err != nil {
			return err
		}
	}
	media, _, _ := mime.ParseMediaType(contentType)
	trimmed := bytes.TrimLeft(head, " \t\r\n")
	switch {
	case bytes.IndexByte(head, 0) >= 0:
		return errors.New("it is no text: there are zero bytes in it")
	case len(trimmed) > 1 && trimmed[0] == '<' && (trimmed[1] == '!' || trimmed[1] == '?' || trimmed[1] == '/' || 'a' <= trimmed[1]|0x20 && trimmed[1]|0x20 <= 'z'):
		return errors.New("it is no list but an HTML or XML page, perhaps that of a login or an error")
	case media == "text/html" || media == "application/xhtml+xml":
		return fmt.Errorf("the server calls it %s: it is no list but a page, perhaps that of a login or an error", media)
	case len(trimmed) > 0 && trimmed[0] == '{':
		return errors.New("it is no list but JSON")
	}
	return nil
}

// pause lets connections come first: who decides them must not wait for a processor until the scheduler takes it away.
func (p *parser) pause() {
	if p.o.gentle {
		time.Sleep(breath)
		return
	}
	runtime.Gosched()
}

// breath is how long a list that may take its time stands still after each thousand lines, which take less than that: a million entries take some three seconds then.
const breath = time.Millisecond

func (p *parser) run() error {
	p.hosts.Pause = p.pause
	for {
		b, err := p.in.ReadSlice('\n')
		if len(b) > 0 {
			if p.line++; p.line%1024 == 0 {
				p.pause()
			}
			if err == bufio.ErrBufferFull || len(b) > MaxLine {
				p.wrong(fmt.Errorf("the line is longer than %d bytes", MaxLine))
			} else if lerr := p.take(b); lerr != nil {
				return lerr
			}
		}
		for err == bufio.ErrBufferFull {
			_, err = p.in.ReadSlice('\n')
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take reads one line. An error ends the list.
func (p *parser) take(b []byte) error {
	if bytes.IndexByte(b, 0) >= 0 {
		return fmt.Errorf("it is no text: there is a zero byte in line %d", p.line)
	}
	if p.o.Networks {
		n, k, err := network(string(b))
		if k == entry {
			p.report.Entries++
			err = p.networks.Add(n)
		}
		if err != nil {
			p.wrong(err)
		}
		return nil
	}
	k, err := p.o.read(string(b), p.add)
	switch k {
	case unsupported:
		p.report.Unsupported++
	case wrong:
		p.wrong(err)
	}
	return nil
}

func (p *parser) add(pattern string, does uint32) error {
	if err := p.hosts.Add(pattern, does); err != nil {
		return err
	}
	p.report.Entries++
	if does == excepts || does == exceptsImportant {
		p.report.Exceptions++
	}
	return nil
}

func (p *parser) wrong(err error) {
	if p.report.Wrong++; p.report.Wrong == 1 {
		p.report.FirstWrong = fmt.Sprintf("line %d: %s", p.line, oneLine(err.Error()))
	}
}

// oneLine bounds what repeats the text of a list, and keeps it on a line.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// finish judges what has been read as a whole.
func (p *parser) finish() (*Set, error) {
	r := &p.report
	r.Size = p.o.MaxSize - p.limit
	switch {
	case r.Wrong > r.Entries+r.Unsupported:
		return nil, fmt.Errorf("it is no list of %s: %d of %d lines are no entries (%s)", map[bool]string{true: "networks", false: "hosts"}[p.o.Networks], r.Wrong, p.line, r.FirstWrong)
	case r.Entries == 0 && r.Unsupported > 0:
		return nil, fmt.Errorf("it has no entry: all of its %d rules are about more than hosts (is it of networks?)", r.Unsupported)
	case r.Entries == 0 && r.Size == 0:
		return nil, errors.New("it is empty")
	case r.Entries == 0:
		return nil, errors.New("it has no entries")
	}
	s := &Set{Report: *r}
	if p.o.Networks {
		s.networks = p.networks.Build()
		s.Report.Names = s.networks.Len()
	} else {
		s.hosts = p.hosts.Build()
		s.Report.Names = s.hosts.Len()
	}
	return s, nil
}

// Decompress takes gzip off what a file holds, if it is compressed. What comes out may be no longer than most bytes.
func Decompress(b []byte, most int64) ([]byte, error) {
	if len(b) < 2 || b[0] != 0x1f || b[1] != 0x8b {
		return b, nil
	}
	r, err := unpack(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	left := most
	return io.ReadAll(&bounded{r: r, left: &left, most: most})
}
