package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"

	"viaduct/connmodel"
)

// Blocks are compressed with S2, the fastest there is: it makes them some two thirds larger than zstd does and takes a quarter of its time, and the time
// is what a flow pays. A CRC-32C stands before them, because SQLite keeps no checksums and S2 blocks have none.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxPlain bounds what a block is unpacked to: as many records as it may have, as long as they may be.
const maxPlain = blockRecords*(connmodel.MaxRecord+1) + 1<<20

// pack compresses plain into dst's room.
func pack(dst, plain []byte) []byte {
	if n := 4 + s2.MaxEncodedLen(len(plain)); cap(dst) < n {
		dst = make([]byte, n)
	}
	dst = dst[:cap(dst)]
	packed := s2.Encode(dst[4:], plain)
	dst = dst[:4+len(packed)]
	binary.LittleEndian.PutUint32(dst, crc32.Checksum(packed, castagnoli))
	return dst
}

// unpack undoes pack, or returns errLight.
func unpack(packed []byte) ([]byte, error) {
	if len(packed) < 4 || binary.LittleEndian.Uint32(packed) != crc32.Checksum(packed[4:], castagnoli) {
		return nil, errLight
	}
	if n, err := s2.DecodedLen(packed[4:]); err != nil || n > maxPlain {
		return nil, errLight
	}
	plain, err := s2.Decode(nil, packed[4:])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errLight, err)
	}
	return plain, nil
}
