package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"waymark/cmd/internal/demo"
	"waymark/schema"
	"waymark/tracker"
)

// demoSeed makes the history the same everywhere, apart from the moment that it ends on.
const demoSeed = 1

// The files of a data folder that say how far the demo is. While demoBegun is there and demoDone is not, the folder holds
// nothing but a part of the demo's history.
const (
	demoBegun = "demo-begun"
	demoDone  = "demo-done"
)

// restartDemo empties a data folder whose demo history was cut short: handing in half of it again would count it twice.
func restartDemo(p *process) error {
	if !p.data.Has(demoBegun) || p.data.Has(demoDone) {
		return nil
	}
	p.log.Warn("the demo's history was cut short, beginning anew")
	return p.data.Remove("tracker", "aggregator", "kafka", "clickhouse", "waymark.db", "waymark.db-wal", "waymark.db-shm", demoBegun)
}

// startDemo starts the shop, applies the demo's program file, and hands in the history if it has not been yet. It returns
// when all of it is counted.
func (s *system) startDemo(ctx context.Context, r *ready) error {
	shop := &http.Server{Handler: demo.NewShop(r.Tracker, s.log), ReadHeaderTimeout: 5 * time.Second}
	s.stack.Start("demo shop", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { shop.Close() })
		defer stop()
		if err := shop.Serve(s.sockets.shop); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("cannot serve the demo's shop: %w", err)
		}
		return nil
	})
	r.Shop = baseURL("http", s.sockets.shop.Addr())
	r.Email, r.Password, r.Program = demo.Email, demo.Password, demo.Program
	r.ConversionsKey, r.PartnerAPIKey = demo.ConversionsKey, demo.PartnerAPIKey
	r.Links = []string{r.Tracker + "/" + demo.DefaultSlug, r.Tracker + "/" + demo.CustomSlug}
	if !s.data.Has(demoBegun) {
		if err := s.data.WriteFile(demoBegun, nil); err != nil {
			return err
		}
	}
	if _, err := applyFile(ctx, s.admin.URL(), demo.File(r.Shop), false); err != nil {
		return fmt.Errorf("cannot apply the demo's program file: %w", err)
	}
	if s.data.Has(demoDone) {
		return nil
	}
	begin := time.Now()
	s.log.Info("handing in the demo's history", "clicks", demo.Clicks, "signups", demo.Signups, "sales", demo.Sales)
	if err := s.seedDemo(ctx, begin); err != nil {
		return err
	}
	sent := time.Now()
	if err := poll(ctx, "the demo's numbers are counted", s.stack.Failed, func(ctx context.Context) error { return s.countedUpTo(ctx, sent) }); err != nil {
		return err
	}
	s.log.Info("the demo's history is counted", "handed_in", sent.Sub(begin).Round(time.Millisecond), "counted", time.Since(sent).Round(time.Millisecond))
	return s.data.WriteFile(demoDone, nil)
}

// seedDemo hands the history to the tracker in the order of its times, and returns when it is on disk.
func (s *system) seedDemo(ctx context.Context, end time.Time) error {
	partner, err := s.database.PartnerByEmail(ctx, demo.Email)
	if err != nil {
		return fmt.Errorf("cannot find the demo's partner: %w", err)
	}
	program, _, err := s.database.Membership(ctx, partner.ID, demo.Program)
	if err != nil {
		return fmt.Errorf("cannot find the demo's program: %w", err)
	}
	clicks := make([]string, demo.Clicks)
	ids := schema.NewClickIDs(s.secrets)
	for _, e := range demo.History(end, demoSeed) {
		if v := e.Visit; v != nil {
			clicks[v.Index], err = s.recordVisit(ctx, e.Time, v)
		} else {
			err = s.recordConversion(ctx, program.ID, ids, e.Time, e.Conversion, clicks[e.Conversion.Visit])
		}
		if err != nil {
			return fmt.Errorf("cannot hand in the demo's history at %s: %w", e.Time.Format(time.RFC3339), err)
		}
	}
	return s.tracker.Sync(ctx)
}

// recordVisit hands in a visit. The first ones wait until their link has reached the edge.
func (s *system) recordVisit(ctx context.Context, at time.Time, v *demo.Visit) (id string, err error) {
	address, err := netip.ParseAddr(v.Address)
	if err != nil {
		return "", err
	}
	visit := tracker.Visit{
		Time: at, Host: demo.Host, Slug: v.Slug, Method: v.Method, Query: v.Query, Address: address,
		UserAgent: v.UserAgent, AcceptLanguage: v.AcceptLanguage, Referrer: v.Referrer,
	}
	id, err = s.tracker.Record(ctx, visit)
	if !errors.Is(err, tracker.ErrUnknownLink) {
		return id, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = poll(ctx, "the demo's links are on the edge", s.stack.Failed, func(ctx context.Context) error {
		id, err = s.tracker.Record(ctx, visit)
		return err
	})
	return id, err
}

func (s *system) recordConversion(ctx context.Context, program uint64, ids *schema.ClickIDs, at time.Time, c *demo.Conversion, click string) error {
	id, err := ids.Parse([]byte(click))
	if err != nil {
		return err
	}
	conversion := &schema.Conversion{
		Type: schema.ConversionType_CONVERSION_SIGNUP, ClickId: id[:], CustomerKey: c.CustomerKey, OccurredMs: at.UnixMilli(), IdempotencyKey: c.Key,
	}
	if c.Sale {
		conversion.Type, conversion.Amount, conversion.Currency = schema.ConversionType_CONVERSION_SALE, c.Amount, c.Currency
	}
	return s.tracker.RecordConversion(ctx, program, conversion)
}

// countedUpTo returns nil when the dashboard's numbers hold everything that was sent before a time.
func (s *system) countedUpTo(ctx context.Context, t time.Time) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.admin.URL()+"/v1/status", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var status struct {
		AsOf *time.Time `json:"data_as_of"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return err
	}
	if status.AsOf == nil || !status.AsOf.After(t) {
		return fmt.Errorf("the numbers are as of %v", status.AsOf)
	}
	return nil
}
