package expr

import (
	"testing"

	"viaduct/connmodel"
)

// valueTable lists conditions with their value for request() and for tunnel().
var valueTable = []struct {
	src             string
	request, tunnel bool
}{
	// literals and logic
	{`true`, true, true},
	{`!true`, false, false},
	{`(true)`, true, true},
	{`"${true}"`, true, true},
	{`true && false || true`, true, true},
	{`local.on`, true, true},
	{`local.on && client.user == "anna"`, true, false},
	{`client.user == "anna" && listener == "desk" && target.port == 8080`, true, false},
	{`client.user == "bert" || listener == "lan" || target.port == 8080`, true, true},
	{`client.user == "bert" || listener == "desk" || target.port == 80 || target.port == 81`, true, false},
	{`client.user == "anna" && listener == "desk" && target.port == 8080 && now.hour == 10`, false, false},
	{`!(client.user == "anna")`, false, true},
	{`(client.user == "anna") == (listener == "desk")`, true, true},
	{`(client.user == "anna") != (listener == "desk")`, false, false},
	{`(client.user == "anna") == true`, true, false},
	{`true == (client.user == "anna")`, true, false},
	{`client.user == "anna" ? target.port == 8080 : target.port == 443`, true, true},
	{`local.on ? client.user == "anna" : false`, true, false},

	// names
	{`client.address == "10.20.1.7"`, true, false},
	{`"10.20.1.7" == client.address`, true, false},
	{`client.address != "10.20.1.7"`, false, true},
	{`client.address == "::ffff:10.20.1.7"`, true, false},
	{`client.address == null`, false, true},
	{`null != client.address`, true, false},
	{`client.address == target.ip`, false, false},
	{`client.address == (client.user == "anna" ? client.address : null)`, true, true},
	{`client.port == 50123`, true, false},
	{`client.port == 0`, false, true},
	{`client.user == ""`, false, true},
	{`client["user"] == "anna"`, true, false},
	{`(client).user == "anna"`, true, false},
	{`listener == "desk"`, true, false},
	{`protocol == "http"`, true, false},
	{`protocol == "socks5"`, false, true},
	{`target.host == "api.corp.example"`, true, false},
	{`target.host == "192.0.2.1"`, false, true},
	{`target.ip == null`, true, false},
	{`target.ip == "192.0.2.1"`, false, true},
	{`target.scheme == "http"`, true, false},
	{`target.scheme == ""`, false, true},
	{`cidr(target.addresses, "10.0.0.0/8")`, true, false},
	{`cidr(target.addresses, "192.0.2.0/24")`, false, true},
	{`cidr(target.addresses, "2000::/3", "fd00::/8")`, true, false},
	{`contains(target.addresses, "10.9.0.5")`, true, false},
	{`contains(target.addresses, target.ip)`, false, true},
	{`length(target.addresses) == 2`, true, false},
	{`length(target.addresses) == 1`, false, true},

	// what the TLS client in the tunnel says
	{`tls.hello`, false, true},
	{`tls.sni == "www.example"`, false, true},
	{`tls.sni == ""`, true, false},
	{`endswith(tls.sni, ".example")`, false, true},
	{`tls.sni == target.host`, false, false},
	{`contains(tls.alpn, "h2")`, false, true},
	{`contains(tls.alpn, client.user)`, false, false},
	{`length(tls.alpn) == 2`, false, true},
	{`length(tls.alpn) == 0`, true, false},
	{`glob("t13d*h2_*", tls.ja4)`, false, true},
	{`tls.ech`, false, true},
	{`tls.ech == false`, true, false},
	{`target.sni_mismatch`, false, false},
	{`!target.sni_mismatch`, true, true},

	// the clock: monday 2026-11-23 09:30:15, saturday 2026-11-28 21:30:15
	{`now.hour == 9`, true, false},
	{`now.hour == 21`, false, true},
	{`now.minute == 30 && now.second == 15`, true, true},
	{`now.weekday == "monday"`, true, false},
	{`contains(["saturday", "sunday"], now.weekday)`, false, true},
	{`now.day == 28 && now.month == 11 && now.year == 2026`, false, true},
	{`now.date == "2026-11-23"`, true, false},
	{`now.date > "2026-11-23"`, false, true},
	{`now.date <= "2026-11-23"`, true, false},
	{`"2026-11-24" <= now.date`, false, true},
	{`contains(["2026-11-23", "2026-12-24"], now.date)`, true, false},
	{`now.time == "09:30"`, true, false},
	{`now.time >= "09:30" && now.time < "17:00"`, true, false},
	{`now.time > "17:00" && now.time < "24:00"`, false, true},
	{`"${now.time}" == "09:30"`, true, false},
	{`startswith("${now.date}", "2026-11-2")`, true, true},
	{`startswith(tostring(now.date), "2026-11-23")`, true, false},
	{`(client.user == "" ? now.date : "2000-01-01") == "2026-11-28"`, false, true},
	{`now.unix == 1795422615`, true, false},
	{`now.unix > 1795422615`, false, true},

	// requests
	{`request.method == "GET"`, true, false},
	{`request.method == ""`, false, true},
	{`request.path == "/v1/items"`, true, false},
	{`request.query == "id=3&x=y"`, true, false},
	{`request.path == "" && request.query == ""`, false, true},
	{`request.header["user-agent"] == "curl/8.1"`, true, false},
	{`request.header["USER-AGENT"] == "curl/8.1"`, true, false},
	{`request.header.user-agent == "curl/8.1"`, true, false},
	{`request.header["x-none"] == ""`, true, true},
	{`request.header[lower("User-Agent")] != ""`, true, false},

	// numbers
	{`target.port + 1 == 8081`, true, false},
	{`target.port - 43 == 400`, false, true},
	{`target.port * 2 == 16160`, true, false},
	{`target.port / 2 == 4040`, true, false},
	{`target.port % 1000 == 80`, true, false},
	{`-target.port == -443`, false, true},
	{`-(-target.port) == 443`, false, true},
	{`(now.hour * 60 + now.minute) / 30 == 19`, true, false},
	{`floor(now.minute / 7) == 4 && ceil(now.minute / 7) == 5`, true, true},
	{`target.port >= 1024`, true, false},
	{`target.port < local.limit`, false, true},
	{`1024 <= target.port`, true, false},
	{`local.limit > target.port`, false, true},
	{`client.port > target.port`, true, false},
	{`client.port >= target.port`, true, false},
	{`client.port <= target.port`, false, true},
	{`client.port == target.port`, false, false},
	{`target.port == tonumber(var.port)`, false, true},
	{`min(target.port, 1000) == 1000`, true, false},
	{`max(target.port, client.port, 5) == 443`, false, true},
	{`max(target.port, local.ports...) == 443`, false, true},
	{`abs(443 - target.port) == 0`, false, true},
	{`abs(target.port - 9000) == 920`, true, false},
	{`100 / max(1, client.port) == 100`, false, true},
	{`target.port % (now.day) == 7`, true, false},
	{`tonumber(request.header["content-length"], 0) > 1000`, true, false},
	{`tonumber(request.header["content-length"], -1) == -1`, false, true},
	{`tonumber(request.header["user-agent"], 7) == 7`, true, true},
	{`tonumber(target.port) == 443`, false, true},

	// texts
	{`startswith(target.host, "api.")`, true, false},
	{`endswith(target.host, ".corp.example")`, true, false},
	{`strcontains(target.host, "corp")`, true, false},
	{`startswith(target.host, client.user)`, false, true},
	{`strcontains(request.query, "id=")`, true, false},
	{`glob("*.corp.example", target.host)`, true, false},
	{`glob("/v?/*", request.path)`, true, false},
	{`glob("[^A-Z]*.example", target.host)`, true, false},
	{`regex("^api\\.", target.host)`, true, false},
	{`regex("(?i)CURL/[0-9]+", request.header["user-agent"])`, true, false},
	{`lower(request.method) == "get"`, true, false},
	{`upper(client.user) == "ANNA"`, true, false},
	{`trimspace(" ${client.user} ") == "anna"`, true, false},
	{`trimprefix(target.host, "api.") == "corp.example"`, true, false},
	{`trimsuffix(target.host, ".example") == "api.corp"`, true, false},
	{`trim(request.path, "/") == "v1/items"`, true, false},
	{`replace(target.host, ".", "-") == "api-corp-example"`, true, false},
	{`replace(client.user, "n", "mm") == "ammmma"`, true, false},
	{`substr(client.user, 1, 2) == "nn"`, true, false},
	{`substr(client.user, -2, -1) == "na"`, true, false},
	{`substr(client.user, 10, 3) == ""`, true, true},
	{`substr(client.user, 0, 99) == "anna"`, true, false},
	{`substr(client.user, now.month - 11, 1) == "a"`, true, false},
	{`coalesce(client.user, "nobody") == "nobody"`, false, true},
	{`coalesce(request.header["x-user"], client.user, "nobody") == "anna"`, true, false},
	{`tostring(client.address) == "10.20.1.7"`, true, false},
	{`tostring(client.address) == ""`, false, true},
	{`tostring(target.port) == "443"`, false, true},
	{`tostring(target.port == 443) == "true"`, false, true},
	{`"${client.user}@${target.host}:${target.port}" == "anna@api.corp.example:8080"`, true, false},
	{`"${client.user}" == "anna"`, true, false},
	{`"${client.address}" == "10.20.1.7"`, true, false},
	{`startswith("<${client.address}>", "<>")`, false, true},
	{`"x${-(target.port - target.port)}" == "x0"`, true, true},
	{`"%{ if client.user == "anna" }yes%{ else }no%{ endif }" == "yes"`, true, false},
	{`length(client.user) == 4`, true, false},
	{`length(target.host) > 12`, true, false},

	// lists and maps
	{`contains(local.admins, client.user)`, true, false},
	{`contains(local.empty, client.user)`, false, false},
	{`contains(local.ports, target.port)`, false, true},
	{`contains([443, 8443], target.port)`, false, true},
	{`contains(range(8000, 9000), target.port)`, true, false},
	{`contains(concat(local.admins, ["carl"]), client.user)`, true, false},
	{`contains(["a", "b", "c", "d", "e", "f", "g", "h", "i", "anna"], client.user)`, true, false},
	{`contains([for p in local.ports : p + 0], target.port)`, false, true},
	{`contains(keys(local.teams), client.user)`, true, false},
	{`contains(values({ a = "anna" }), client.user)`, true, false},
	{`contains([client.user, "x"], "anna")`, true, false},
	{`contains([client.user, target.host], target.host)`, true, true},
	{`contains(["10.20.1.7", "10.20.1.8"], client.address)`, true, false},
	{`contains(["10.20.1.7", null], client.address)`, true, true},
	{`contains(local.admins[*], client.user)`, true, false},
	{`contains(toset(local.admins), client.user)`, true, false},
	{`contains(sort(distinct(flatten([local.admins, ["anna"]]))), client.user)`, true, false},
	{`cidr(client.address, local.office)`, true, false},
	{`cidr(client.address, local.office...)`, true, false},
	{`cidr(client.address, "10.20.1.7")`, true, false},
	{`cidr(client.address, ["10.20.0.0/16"], "fd00::/8")`, true, false},
	{`cidr(client.address, "1.0.0.0/8", "2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8", "10.0.0.0/8")`, true, false},
	{`cidrcontains("10.0.0.0/8", client.address)`, true, false},
	{`cidr(request.header["x-forwarded-for"], "10.0.0.0/8")`, false, false},
	{`cidr(client.address, cidrsubnet("10.0.0.0/8", 8, 20))`, true, false},
	{`client.address == cidrhost("10.20.1.0/24", 7)`, true, false},
	{`lookup(local.teams, client.user, "none") == "red"`, true, false},
	{`lookup(local.teams, client.user, "none") == "none"`, false, true},
	{`lookup({ anna = 1, bert = 2 }, client.user, 0) > 0`, true, false},
	{`lookup({ anna = true }, client.user, false)`, true, false},
	{`local.teams.anna == "red"`, true, true},
	{`local.teams["anna"] == "red"`, true, true},
	{`local.admins[0] == client.user`, true, false},
	{`local.admins.0 == client.user`, true, false},
	{`["a", client.user][1] == "anna"`, true, false},
	{`["sun", "mon", "tue", "wed", "thu", "fri", "sat", "", "", "mon", "", ""][now.month - 1] == ""`, true, true},
	{`element(["a", "b", "c"], target.port) == "b"`, true, false},
	{`element([1, 2], now.hour - 20) == 2`, true, true},
	{`element([client.user, "x"], 2) == "anna"`, true, false},
	{`env("SET") == "value of SET"`, true, true},
	{`env("UNSET", "x") == "x"`, true, true},
	{`try(local.teams.zoe, "x") == "x"`, true, true},
	{`request.header["x-day"] == now.date`, false, false},
	{`can(tonumber("x"))`, false, false},
	{`try(tonumber("x"), 3) == 3`, true, true},
	{`jsondecode("[443]")[0] == target.port`, false, true},
	{`anytrue([for n in local.admins : n == "anna"])`, true, true},
	{`local.nothing == null`, true, true},
}

func TestValues(t *testing.T) {
	for _, tt := range valueTable {
		t.Run(tt.src, func(t *testing.T) {
			c := compile(t, tt.src)
			for _, x := range []struct {
				name string
				f    *connmodel.Facts
				want bool
			}{{"request", request(), tt.request}, {"tunnel", tunnel(), tt.tunnel}} {
				if got := c.Eval(x.f); got != x.want {
					t.Errorf("%s: got %v, want %v (%s)", x.name, got, x.want, c.Describe(x.f))
				}
				if got, need := c.Test(x.f); got != x.want || need != 0 {
					t.Errorf("%s: Test gives %v, %v, want %v", x.name, got, need, x.want)
				}
				if v, fixed := c.Constant(); fixed && v != x.want {
					t.Errorf("%s: said to be always %v", x.name, v)
				}
			}
		})
	}
}
