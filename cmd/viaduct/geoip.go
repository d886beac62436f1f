package main

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"viaduct/policies"
	"viaduct/policies/geo"
	"viaduct/router/admin"
)

// geoWatch keeps the GeoIP database of a configuration up to date with its file, and warns when it has become old.
type geoWatch struct {
	db     *geo.Database
	after  time.Duration
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// watchGeoIP returns nil for a configuration without a database.
func watchGeoIP(c *policies.Config, log *logrus.Logger) *geoWatch {
	db := c.Gateway.GeoIP
	if db == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &geoWatch{db: db, after: c.Gateway.GeoIPWarnAfter, cancel: cancel}
	w.done.Go(func() {
		db.Watch(ctx, geo.WatchEvery, func(problem bool, text string) {
			if problem {
				log.Warn(text)
				return
			}
			log.Info(text)
		})
	})
	w.done.Go(func() { w.warn(ctx, log) })
	return w
}

// warn says once a day that the database is old. At load the policy says so.
func (w *geoWatch) warn(ctx context.Context, log *logrus.Logger) {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-day.C:
		}
		if w.old() {
			log.WithField("file", w.db.Info().Path).Warnf("the GeoIP database is old: %s", w.db)
		}
	}
}

func (w *geoWatch) old() bool { return time.Since(w.db.Info().Built) > w.after }

// stop ends the watching; nil has nothing to end.
func (w *geoWatch) stop() {
	if w != nil {
		w.cancel()
		w.done.Wait()
	}
}

// status returns nil where there is no database.
func (w *geoWatch) status() *admin.GeoIPStatus {
	if w == nil {
		return nil
	}
	i := w.db.Info()
	return &admin.GeoIPStatus{Path: i.Path, Type: i.Type, Built: i.Built, Since: i.Since, Old: w.old(), Size: i.Size, Error: i.Error, Loads: i.Loads, Broken: i.Broken}
}
