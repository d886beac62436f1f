package upstream

import (
	"strings"

	"viaduct/connmodel"
	"viaduct/upstream/http1"
)

// hints are words by which HTTP proxies say why they refused, where the status alone says less: the error types of
// Proxy-Status (RFC 9209, section 2.3), and Squid's X-Squid-Error with the errno behind it.
var hints = map[string]verdict{
	"dns_error":                 {whose: nexts, kind: connmodel.KindDNS, retry: true},
	"dns_timeout":               {whose: nexts, kind: connmodel.KindTimeout, retry: true},
	"destination_not_found":     {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	"destination_unavailable":   {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	"destination_ip_unroutable": {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	"destination_ip_prohibited": {whose: peers, kind: connmodel.KindDenied},
	"connection_refused":        {whose: nexts, kind: connmodel.KindRefused, retry: true},
	"connection_timeout":        {whose: nexts, kind: connmodel.KindTimeout, retry: true},
	"connection_terminated":     {whose: nexts, kind: connmodel.KindReset, retry: true},
	"connection_limit_reached":  {whose: peers, kind: connmodel.KindLimit, retry: true},
	"http_request_denied":       {whose: peers, kind: connmodel.KindDenied},
	"proxy_loop_detected":       {whose: peers, kind: connmodel.KindProtocol},
	"proxy_internal_error":      {whose: peers, kind: connmodel.KindProtocol, retry: true},
	"ERR_DNS_FAIL":              {whose: nexts, kind: connmodel.KindDNS, retry: true},
	"ERR_ACCESS_DENIED":         {whose: peers, kind: connmodel.KindDenied},
	"ERR_CONNECT_FAIL 110":      {whose: nexts, kind: connmodel.KindTimeout, retry: true},
	"ERR_CONNECT_FAIL 111":      {whose: nexts, kind: connmodel.KindRefused, retry: true},
	"ERR_CONNECT_FAIL 101":      {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
	"ERR_CONNECT_FAIL 113":      {whose: nexts, kind: connmodel.KindUnreachable, retry: true},
}

// hintOf returns the hint in a refusal that is one of hints, else "". Nothing else of the proxy's is taken over.
func hintOf(h http1.Header) string {
	if v := h.Get("Proxy-Status"); v != "" {
		_, after, _ := strings.Cut(v[strings.LastIndexByte(v, ',')+1:], "error=") // the last member is the nearest to us
		word, _, _ := strings.Cut(after, ";")
		if word = strings.TrimSpace(word); known(word) {
			return word
		}
	}
	if f := strings.Fields(h.Get("X-Squid-Error")); len(f) > 0 {
		if len(f) > 1 && known(f[0]+" "+f[1]) {
			return f[0] + " " + f[1]
		}
		if known(f[0]) {
			return f[0]
		}
	}
	return ""
}

func known(word string) bool {
	_, ok := hints[word]
	return ok
}
