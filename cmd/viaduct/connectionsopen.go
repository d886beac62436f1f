package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"viaduct/connmodel"
)

// What the running gateway knows: connections that are open, and those that end while somebody looks on.

// connectionsPage is an answer of the door.
type connectionsPage struct {
	Open        int               `json:"open"`
	Next        *string           `json:"next"`
	Connections []*connmodel.Flow `json:"connections"`
}

const (
	doorPage = 1000    // connections of one answer
	mostOpen = 200_000 // that are held to be shown in their order
)

// showOpen shows what is open, the newest last. The door gives the newest first: they are turned round here.
func (q *connectionsQuery) showOpen(ctx context.Context, w flowWriter) error {
	d, err := q.control.open()
	if err != nil {
		return err
	}
	defer d.close()
	var list []*connmodel.Flow
	cursor, more := "", false
	for {
		var p connectionsPage
		v := url.Values{"limit": {strconv.Itoa(doorPage)}}
		if cursor != "" {
			v.Set("cursor", cursor)
		}
		if _, err := d.ask(ctx, http.MethodGet, "/v1/connections?"+v.Encode(), nil, &p); err != nil {
			return err
		}
		for _, f := range p.Connections {
			if q.meansOpen(f) {
				if q.limit > 0 && len(list) == q.limit {
					more = true
					break
				}
				list = append(list, f)
			}
		}
		if more || p.Next == nil || *p.Next == "" || *p.Next == cursor || len(list) > mostOpen {
			break
		}
		cursor = *p.Next
	}
	slices.Reverse(list)
	for _, f := range list {
		if err := w.flow(f); err != nil {
			return err
		}
	}
	switch {
	case len(list) == 0:
		fmt.Fprintf(q.errs, "viaduct: no connection is open%s\n", q.whereWords())
	case more && !q.limited:
		fmt.Fprintf(q.errs, "viaduct: these are the newest %d of those that are open; --limit 0 shows all, --limit N so many\n", len(list))
	}
	return nil
}

// meansOpen reports whether an open flow is asked for. The filter is applied here: the door and the command may be of different versions.
func (q *connectionsQuery) meansOpen(f *connmodel.Flow) bool {
	return (q.from.IsZero() || !f.Start.Before(q.from)) && (q.to.IsZero() || !f.Start.After(q.to)) && q.filter.Match(f)
}

// listen shows connections as the gateway tells that they end, where there is no journal to look into.
func (q *connectionsQuery) listen(ctx context.Context, w flowWriter) error {
	d, err := q.control.open()
	if err != nil {
		return err
	}
	defer d.close()
	res, err := d.send(ctx, http.MethodGet, "/v1/events?types=connection_closed", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the gateway at %s tells no events: %s", d.address, res.Status)
	}
	fmt.Fprintln(q.errs, "viaduct: there is no journal; the gateway tells of connections that end from now on")
	in := bufio.NewScanner(res.Body)
	in.Buffer(nil, connmodel.MaxRecord+64<<10)
	for kind := ""; in.Scan(); {
		line := in.Bytes()
		switch {
		case bytes.HasPrefix(line, []byte("event: ")):
			kind = string(line[len("event: "):])
			continue
		case !bytes.HasPrefix(line, []byte("data: ")):
			continue
		}
		data := line[len("data: "):]
		switch kind {
		case "lagged":
			fmt.Fprintf(q.errs, "viaduct: some were not told: this command takes them too slowly %s\n", printable(strings.TrimSpace(string(data))))
		case "connection_closed":
			f := new(connmodel.Flow)
			if err := json.Unmarshal(data, f); err != nil {
				return fmt.Errorf("what the gateway tells is no record: %w", err)
			}
			if !q.filter.Match(f) {
				continue
			}
			if err := w.flow(f); err != nil {
				return err
			}
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("the gateway at %s broke off: %w", d.address, err)
	}
	return errors.New("the gateway has stopped")
}
