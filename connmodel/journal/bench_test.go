package journal

import (
	"syscall"
	"testing"
	"time"

	"viaduct/connmodel"
)

// cpu is what this process has taken of the processors so far: unlike the time of the clock it says something on a busy machine, too.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func flows(n int) (list []*connmodel.Flow) {
	for i := range n {
		list = append(list, flow(i, i%10 == 0))
	}
	return list
}

// BenchmarkEncode is what the writer does for each record without the database.
func BenchmarkEncode(b *testing.B) {
	list := flows(blockRecords)
	w := writer{j: &Journal{Queue: connmodel.NewQueue(0, nil)}}
	b.ReportAllocs()
	var octets int
	before := cpu(b)
	for n := 0; n < b.N; n += blockRecords {
		w.flows, w.ready = append(w.flows[:0], list...), false
		w.encode()
		octets = len(w.lightPacked) + len(w.fullPacked) + len(w.digest.words)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(max(b.N, blockRecords)), "cpu-ns/record")
	b.ReportMetric(float64(octets)/blockRecords, "octets/record")
}

// BenchmarkWrite is the whole cost of a record on the writer's goroutine.
func BenchmarkWrite(b *testing.B) {
	list := flows(10 * blockRecords)
	j := open(b, Options{Queue: 1})
	j.w.j = &Journal{Queue: connmodel.NewQueue(0, nil), opt: j.opt} // the goroutine of j gets nothing to do
	w := &writer{j: &Journal{Queue: connmodel.NewQueue(0, nil), opt: j.opt}}
	if err := w.open(); err != nil {
		b.Fatal(err)
	}
	defer w.close()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for n := 0; n < b.N; n += blockRecords {
		at := n % len(list)
		w.flows, w.ready = append(w.flows[:0], list[at:at+blockRecords]...), false
		if err := w.write(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(max(b.N, blockRecords)), "cpu-ns/record")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(w.file.size())/float64(max(b.N, blockRecords)), "octets/record")
}

// BenchmarkRecord is what the data path pays.
func BenchmarkRecord(b *testing.B) {
	f := flow(1, false)
	j := open(b, Options{})
	b.ReportAllocs()
	for b.Loop() {
		j.Record(f)
	}
}

func benchmarkEach(b *testing.B, q Query) {
	list := flows(40 * blockRecords)
	j := open(b, Options{Queue: len(list)})
	for _, f := range list {
		j.Record(f)
	}
	await(b, "all written", func() bool { return j.Status().Written == uint64(len(list)) })
	r := reader(b, j.Dir())
	b.ReportAllocs()
	b.ResetTimer()
	before, n := cpu(b), 0
	for n < b.N {
		err := r.Each(b.Context(), q, func(*connmodel.Flow) error { n++; return nil })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(n), "cpu-ns/record")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkEachLight and BenchmarkEachWhole read records one after the other.
func BenchmarkEachLight(b *testing.B) { benchmarkEach(b, Query{Light: true}) }
func BenchmarkEachWhole(b *testing.B) { benchmarkEach(b, Query{}) }
