package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browser signs in with real Chromium, opens a link in a second tab and watches the number change on the first, which
// nobody reloads.
func browser(t *testing.T, sys *process) {
	path := os.Getenv("WAYMARK_CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("a browser is needed; WAYMARK_CHROMIUM names it: %v", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true),
		chromedp.UserAgent(person+" Browser/1"))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	ctx, cancel := chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(sys.Dashboard)); err != nil {
		t.Fatalf("cannot start the browser: %v", err)
	}
	ctx, cancel = context.WithTimeout(ctx, 60*time.Second)
	defer cancel()

	clicks := chromedp.Text(`#clicks`)
	program := `main a[href="/programs/` + sys.Program + `"]`
	err := chromedp.Do(ctx,
		chromedp.SendKeys(`input[name=email]`, sys.Email),
		chromedp.SendKeys(`input[name=password]`, sys.Password+"\n"),
		chromedp.WaitVisible(program),
		chromedp.Click(program),
		chromedp.WaitVisible(`#clicks`),
	)
	if err != nil {
		t.Fatalf("cannot sign in and open the program: %v", err)
	}
	before, err := chromedp.Run(ctx, clicks)
	if err != nil {
		t.Fatal(err)
	}
	tab, closeTab := chromedp.NewContext(ctx)
	defer closeTab()
	if err := chromedp.Do(tab, chromedp.Navigate(sys.Links[1])); err != nil {
		t.Fatalf("cannot open the link: %v", err)
	}
	shop, err := chromedp.Run(tab, chromedp.Text(`main`))
	if err != nil || !strings.Contains(shop, "Click id") {
		t.Errorf("the shop shows no click id: %q, %v", shop, err)
	}
	clicked := time.Now()
	for {
		now, err := chromedp.Run(ctx, clicks)
		if err != nil {
			t.Fatal(err)
		}
		if now != before {
			t.Logf("the page changed from %s to %s, %v after the shop was shown", before, now, time.Since(clicked).Round(time.Millisecond))
			return
		}
		if time.Since(clicked) > 5*time.Second {
			t.Fatalf("the page still says %s, 5 s after the click", now)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
