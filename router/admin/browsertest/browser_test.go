package browsertest

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "directory to put pictures of the pages into")

// browser is the one Chromium of all tests; each of them has its own profile in it.
var browser context.Context

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("VIADUCT_REQUIRE_PEERS") == "1" {
			fmt.Fprintln(os.Stderr, "VIADUCT_REQUIRE_PEERS=1, but not installed: chromium")
			return 1
		}
		fmt.Fprintln(os.Stderr, "skipped: chromium is not installed")
		return 0
	}
	var err error
	if scratch, err = os.MkdirTemp("", "viaduct-browser-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	o := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(scratch, "profile")),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("proxy-server", "direct://"), chromedp.Flag("disable-component-update", true), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.WSURLReadTimeout(60*time.Second))
	if os.Getuid() == 0 {
		o = append(o, chromedp.NoSandbox)
	}
	alloc, end := chromedp.NewExecAllocator(context.Background(), o...)
	defer end()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chromium:", err)
		return 1
	}
	browser = ctx
	return m.Run()
}

// tab is a page in the browser. What should never happen in one fails the test: a fault of a script, something that the content security
// policy had to stop, a dialog, a request to another host.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu    sync.Mutex
	wrong []string
	hosts map[string]bool // that may be asked
}

func newTab(t *testing.T, r *rig, hosts ...string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx, hosts: map[string]bool{r.door: true}}
	for _, h := range hosts {
		b.hosts[h] = true
	}
	err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900))
	if err == nil {
		err = chromedp.Listen(ctx, b.see)
	}
	if err == nil {
		_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
	}
	if err == nil {
		_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(ctx, 80*time.Second)
	b.ctx = ctx
	t.Cleanup(func() {
		if t.Failed() && *screenshots != "" {
			b.shoot("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
		}
		stop()
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, w := range b.wrong {
			t.Error(w)
		}
	})
	return b
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.wrong) < 10 {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}

func (b *tab) see(ev any) {
	switch e := ev.(type) {
	case *cdpruntime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		b.note("a script has failed: %s", text)
	case *cdpruntime.EventConsoleAPICalled:
		if e.Type == "error" {
			var all []string
			for _, a := range e.Args {
				all = append(all, string(a.Value)+a.Description)
			}
			b.note("the console says: %s", strings.Join(all, " "))
		}
	case *log.EventEntryAdded:
		// Answers that say no, and a door that is away, are shown by the page; the browser logs them, too.
		if e.Entry.Level == "error" && e.Entry.Source != "network" || e.Entry.Source == "security" {
			b.note("the browser says: %s %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *page.EventJavascriptDialogOpening:
		b.note("a dialog opened: %s", e.Message)
		go chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{})
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err == nil && u.Scheme != "data" && u.Scheme != "about" && !(u.Scheme == "http" && b.hosts[u.Host]) {
			b.note("a request to elsewhere: %s", e.Request.URL)
		}
	}
}

func (b *tab) do(a ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, a...); err != nil {
		b.t.Fatalf("%v\nThe page says: %s", err, b.text())
	}
}

// text is all that can be read on the page.
func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	s, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
	return s
}

// open goes to a page of the dashboard, signed in.
func (b *tab) open(r *rig, page string) {
	b.t.Helper()
	b.do(chromedp.Navigate("http://" + r.door + "/#token=" + r.token + "&" + page))
	b.await("the page", `document.querySelector("main h1") !== null && !document.querySelector(".login")`)
}

// to goes to another page as a link does.
func (b *tab) to(page string) {
	b.t.Helper()
	b.run(`location.hash = ` + quote(page))
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

// run evaluates an expression for what it does.
func (b *tab) run(js string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`void (` + js + `)`))
}

// await waits until an expression is true.
func (b *tab) await(what, js string) {
	b.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`!!(`+js+`)`))
		if ok {
			return
		}
		if time.Now().After(end) || b.ctx.Err() != nil {
			b.t.Fatalf("not within 20 s: %s (%v)\nThe page says: %.3000s", what, err, b.text())
		}
		time.Sleep(40 * time.Millisecond)
	}
}

// says waits until a text can be read.
func (b *tab) says(texts ...string) {
	b.t.Helper()
	for _, s := range texts {
		b.await("the text "+quote(s), `document.body.innerText.includes(`+quote(s)+`)`)
	}
}

// ask returns the value of an expression.
func ask[T any](b *tab, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", js, err)
	}
	return v
}

func (b *tab) size(width, height int64, o ...chromedp.EmulateViewportOption) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height, o...))
}

func (b *tab) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// shoot puts a picture of the page into the directory for them.
func (b *tab) shoot(name string) {
	if *screenshots == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Logf("no picture of %s: %v", name, err)
		return
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
