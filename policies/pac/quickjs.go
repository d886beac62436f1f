package pac

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"modernc.org/quickjs"
)

//go:embed prelude.js
var prelude string

// quickJS is an engine on modernc.org/quickjs, which bounds memory and depth itself and can be interrupted, also within regular
// expressions.
type quickJS struct {
	o       *Options
	vm      *quickjs.VM
	find    quickjs.Value
	call    *call // under way
	spoiled bool
}

// newQuickJS makes an engine and evaluates the script in it.
func newQuickJS(ctx context.Context, text string, o *Options) (e *quickJS, found Found, err error) {
	vm, err := quickjs.NewVM()
	if err != nil {
		return nil, found, scriptErrorf(ReasonEngine, "no engine could be made: %v", err)
	}
	e = &quickJS{o: o, vm: vm, spoiled: true}
	defer func() {
		if err != nil {
			e.Close()
			e = nil
		}
	}()
	vm.SetMemoryLimit(uintptr(o.Memory))
	vm.SetMaxStackSize(uintptr(o.Depth))
	vm.SetCanBlock(false)
	for name, f := range map[string]quickjs.HostFunc{"$has": e.has, "$net": e.net, "$date": e.date, "$glob": e.glob, "$alert": e.alert, "$clock": e.clock} {
		if err := vm.RegisterHostFunc(name, f); err != nil {
			return e, found, scriptErrorf(ReasonEngine, "function %s: %v", name, err)
		}
	}
	if e.find, err = vm.EvalValue(prelude, quickjs.EvalGlobal); err != nil {
		return e, found, scriptErrorf(ReasonEngine, "prelude: %v", err)
	}
	var ok any
	found, err = e.within(ctx, func() (err error) {
		v, err := vm.EvalValue(text, quickjs.EvalGlobal)
		if err != nil {
			return err
		}
		v.Free()
		ok, err = e.find.Call(quickjs.UndefinedValue, "", "", true)
		return err
	})
	switch {
	case err != nil:
		if se, is := err.(*ScriptError); is && se.Reason == ReasonThrow {
			se.Reason = ReasonCompile
		}
		return e, found, err
	case ok != "!ok":
		return e, found, scriptErrorf(ReasonCompile, "it defines no function FindProxyForURL")
	}
	e.spoiled = false
	return e, found, nil
}

// Find implements Engine.
func (e *quickJS) Find(ctx context.Context, q Query) (Found, error) {
	var out any
	found, err := e.within(ctx, func() (err error) {
		out, err = e.find.Call(quickjs.UndefinedValue, q.URL, q.Host)
		return err
	})
	if err != nil {
		e.spoiled = true
		return found, err
	}
	text, _ := out.(string)
	answer, isText := strings.CutPrefix(text, "=")
	if isText {
		found.Text = answer
		return found, nil
	}
	kind, what, _ := strings.Cut(strings.TrimPrefix(text, "!"), " ")
	switch kind {
	case "throw":
		err := e.thrown(what)
		e.spoiled = e.spoiled || err.Reason != ReasonThrow
		return found, err
	case "long":
		return found, scriptErrorf(ReasonAnswer, "the answer has more than 65536 characters")
	case "none":
		e.spoiled = true // for good: only another engine has it again
		return found, scriptErrorf(ReasonAnswer, "the function FindProxyForURL is gone")
	case "object":
		return found, scriptErrorf(ReasonAnswer, "the answer is an object; it has to be a text (async functions give back objects)")
	case "":
		return found, scriptErrorf(ReasonEngine, "the engine gave back %T", out)
	}
	return found, scriptErrorf(ReasonAnswer, "the answer is %s; it has to be a text, and DIRECT where no proxy is wanted", kind)
}

// Spoiled implements Engine.
func (e *quickJS) Spoiled() bool { return e.spoiled }

// Close implements Engine. The engine may be in any state.
func (e *quickJS) Close() {
	defer func() { _ = recover() }() // an abandoned engine panics; its memory is lost, and there is nothing more to do
	if e.spoiled {
		e.vm.SetMemoryLimit(0)
	}
	e.find.Free()
	e.vm.Close()
}

// thrown tells the limits from what a script throws itself.
func (e *quickJS) thrown(text string) *ScriptError {
	text = clip(strings.ToValidUTF8(text, "?"), 300)
	switch {
	case strings.Contains(text, "out of memory"), text == "null", text == "object null": // null: there was no memory for the error either
		return scriptErrorf(ReasonMemory, "it took more than %d MiB of memory", e.o.Memory>>20)
	case strings.Contains(text, "stack overflow"):
		return scriptErrorf(ReasonMemory, "it called itself more than about %d times", e.o.Depth)
	case strings.Contains(text, "InternalError: interrupted"):
		return scriptErrorf(ReasonTime, "it ran longer than %v", e.o.Time)
	case strings.HasPrefix(text, "InternalError: "): // a string that is too long, for instance
		return scriptErrorf(ReasonMemory, "it met a bound of the engine: %s", strings.TrimPrefix(text, "InternalError: "))
	}
	return scriptErrorf(ReasonThrow, "it threw %s", clip(fmt.Sprintf("%q", text), 400))
}

// within runs f within the bound of time, from which look-ups are taken out, and until ctx ends.
func (e *quickJS) within(ctx context.Context, f func() error) (found Found, err error) {
	c := &call{ctx: ctx, e: e}
	e.call = c
	start := time.Now()
	c.watch(start)
	stop := context.AfterFunc(ctx, e.vm.Interrupt)
	func() {
		defer func() {
			if p := recover(); p != nil {
				e.spoiled = true
				err = scriptErrorf(ReasonEngine, "the engine failed: %s", clip(fmt.Sprint(p), 200))
			}
		}()
		err = f()
	}()
	stop()
	c.unwatch()
	e.call = nil
	found = c.found
	found.Run = time.Since(start) - found.DNS
	if cause := ctx.Err(); cause != nil {
		e.spoiled = true
		return found, cause
	}
	if err == nil {
		return found, nil
	}
	if _, is := err.(*ScriptError); is {
		return found, err
	}
	se := e.thrown(err.Error())
	e.spoiled = e.spoiled || se.Reason != ReasonThrow
	return found, se
}

// call is one call of the script.
type call struct {
	ctx   context.Context
	e     *quickJS
	found Found
	names map[string][]netip.Addr // looked up in this call

	mu            sync.Mutex
	until         time.Time
	timer         *time.Timer
	over, waiting bool
}

// watch interrupts the engine when the time is up. The clock stands still while we look a name up.
func (c *call) watch(start time.Time) {
	c.until = start.Add(c.e.o.Time)
	c.timer = time.AfterFunc(c.e.o.Time, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.waiting || c.over {
			return
		}
		if left := time.Until(c.until); left > 0 {
			c.timer.Reset(left)
			return
		}
		c.e.vm.Interrupt()
	})
}

func (c *call) unwatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.timer.Stop()
}

// wait stops the clock, and returns what starts it again. Another engine may run meanwhile: name servers that are slow or away do
// not stop scripts which do not need them.
func (c *call) wait() (done func()) {
	start := time.Now()
	c.mu.Lock()
	c.waiting = true
	c.mu.Unlock()
	running := c.e.o.running
	if running != nil {
		<-running
	}
	return func() {
		c.found.DNS += time.Since(start)
		if running != nil {
			running <- struct{}{} // those that run end within their time
		}
		d := time.Since(start)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.until, c.waiting = c.until.Add(d), false
		c.timer.Reset(max(time.Until(c.until), 0))
	}
}
