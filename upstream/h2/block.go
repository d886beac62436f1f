package h2

import (
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block collects the header block of one header list (RFC 9113 4.3) and decodes it. Its cost is bounded in bytes and frames
// while it comes, and in bytes and fields when it is decoded: a few bytes may stand for many kilobytes of fields.
type block struct {
	open   bool
	id     uint32
	ended  bool // END_STREAM
	raw    []byte
	frames int

	dec    *hpack.Decoder
	most   int
	size   int
	fields []hpack.HeaderField
	large  bool // there was more than may be; what is in fields is not all
}

func (b *block) init(most int) {
	b.most = most
	b.dec = hpack.NewDecoder(4096, b.emit)
	b.dec.SetMaxStringLength(most)
}

func (b *block) emit(f hpack.HeaderField) {
	b.size += int(f.Size())
	if b.size > b.most || len(b.fields) >= maxFields+8 {
		b.large = true
		b.dec.SetEmitEnabled(false) // the table must be kept right to the end of the block
		return
	}
	b.fields = append(b.fields, f)
}

func (b *block) begin(id uint32, ended bool) {
	b.open, b.id, b.ended, b.frames = true, id, ended, 0
	b.raw = b.raw[:0]
}

// add takes a fragment. What does not fit ends the connection: without decoding it the table is lost.
func (b *block) add(p []byte) error {
	if b.frames++; b.frames > blockFrames || len(b.raw)+len(p) > b.most+b.most/4+1024 {
		return &fault{http2.ErrCodeEnhanceYourCalm, "header block too large"}
	}
	b.raw = append(b.raw, p...)
	return nil
}

// finish decodes the block.
func (b *block) finish() error {
	b.size, b.large, b.fields = 0, false, b.fields[:0]
	b.dec.SetEmitEnabled(true)
	_, err := b.dec.Write(b.raw)
	if err == hpack.ErrStringLength {
		return &fault{http2.ErrCodeEnhanceYourCalm, "header field too large"}
	}
	if err == nil {
		err = b.dec.Close()
	}
	if err != nil {
		return &fault{http2.ErrCodeCompression, "malformed header block"}
	}
	return nil
}

// clear forgets the block; a large buffer is not kept.
func (b *block) clear() {
	b.open = false
	if cap(b.raw) > 8<<10 {
		b.raw = nil
	}
	clear(b.fields)
	if cap(b.fields) > 64 {
		b.fields = nil
	}
}
