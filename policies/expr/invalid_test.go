package expr

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// invalidTable lists conditions that are refused, with the column (in bytes, from 1) and a part of the message.
var invalidTable = []struct {
	src, at, want string
}{
	// names
	{`nosuch == 1`, "1", `There is no "nosuch"`},
	{`true || nosuch == 1`, "9", `There is no "nosuch"`},
	{`false && nosuch == 1`, "10", `There is no "nosuch"`},
	{`client.user == "a" || client.usr == "b"`, "23", `Did you mean "client.user"?`},
	{`true ? client.user == "a" : nosuch.x`, "29", `There is no "nosuch"`},
	{`local.on ? true : client.usre == ""`, "19", `There is no client.usre`},
	{`user == "anna"`, "1", `Did you mean "client.user"?`},
	{`clinet.user == "anna"`, "1", `Did you mean "client"?`},
	{`hour > 9`, "1", `Did you mean "now.hour"?`},
	{`client == "anna"`, "1", `client is no value by itself. It has client.address, client.country, client.port, client.user.`},
	{`client.ip == "10.0.0.1"`, "1", `Did you mean "client.address"?`},
	{`client[0] == 1`, "7", `client has attributes with names`},
	{`client.user.name == "x"`, "12", `This is a string: it has no attributes and no index.`},
	{`listener.name == "x"`, "9", `This is a string`},
	{`request.host == "x"`, "1", `The host and port of a request are target.host and target.port.`},
	{`target.address == "10.0.0.1"`, "1", `"target.ip" (a literal address) or "target.addresses"`},
	{`local.nosuch == "x"`, "1", `There is no local.nosuch.`},
	{`local.offcie == "x"`, "1", `Did you mean "office"?`},
	{`true || try(local.nosuch, true)`, "13", `There is no local.nosuch`},
	{`var.prot == "443"`, "1", `Did you mean "port"?`},
	{`upstream.corp == client.user`, "1", `a reference for via`},
	{`direct`, "1", `a reference for via`},
	{`local.secret == client.user`, "1", `A secret cannot be used`},
	{`local.bad == client.user`, "1", `not known at load`},
	{`each.value == 1`, "1", `There is no "each"`},

	// the type of the whole
	{`client.user`, "1", `A condition must be true or false, but this is a string`},
	{`5`, "1", `this is a number`},
	{`null`, "1", `this is null`},
	{`"true"`, "1", `this is a string`},
	{`[true]`, "1", `this is a list`},
	{`target.addresses`, "1", `this is a list of IP addresses`},
	{`local.teams`, "1", `this is a map`},
	{`{ a = true }`, "1", `this is a map`},

	// logic
	{`client.user && true`, "1", `&& needs something that is true or false, but this is a string. Compare it`},
	{`true || client.port`, "9", `|| needs something that is true or false, but this is a number`},
	{`!client.address`, "2", `! needs something that is true or false, but this is an IP address. Compare it, as in … != null`},
	{`client.user == "a" && "true"`, "23", `Write true without quotes.`},
	{`client.port ? true : false`, "1", `The condition of ?: needs`},
	{`now.hour > 3 ? 1 : "x"`, "1", `The branches of ?: must be of one type`},
	{`(now.hour > 3 ? target.addresses : target.addresses) == null`, "2", `cannot be chosen by ?:`},

	// comparison
	{`target.port == "443"`, "1", `A number and a string are never equal. Write 443 without quotes`},
	{`target.port == var.port`, "1", `tonumber() round a variable`},
	{`client.user == 5`, "1", `Put the number in quotes`},
	{`client.user == null`, "1", `Only client.address and target.ip can be null. This is a string, which never is: it is "" when nobody logged in.`},
	{`target.port == null`, "1", `This is a number, which never is.`},
	{`client.address == "10.0.0.0/8"`, "19", `Use cidr(address, "10.0.0.0/8").`},
	{`client.address == "10.0.0.300"`, "19", `"10.0.0.300" is not an IP address.`},
	{`client.address == local.office`, "1", `Use cidr(address, networks...)`},
	{`client.address == "fe80::1%eth0"`, "19", `not an IP address`},
	{`client.user == local.admins`, "1", `Use contains(list, value).`},
	{`target.addresses == "10.0.0.1"`, "1", `Use cidr(address, networks...) or contains(list, address).`},
	{`target.addresses == target.addresses`, "1", `Lists of addresses are not compared.`},
	{`[client.user] == [client.user]`, "1", `Compare their elements.`},
	{`client.user < "b"`, "1", `Only numbers have an order`},
	{`target.port < "80"`, "15", `Write 80 without quotes.`},
	{`client.address < 5`, "1", `this is an IP address`},
	{`now.time < now.date`, "1", `A time of day and a date have no order between them.`},
	{`now.time > 9`, "1", `A time of day and a number have no order`},
	{`now.time > "9:30"`, "12", `write hours and minutes as in "09:30"`},
	{`now.time == "25:00"`, "13", `is not a time of day`},
	{`now.date == "23.11.2026"`, "13", `as in "2026-11-23"`},
	{`now.date > "2026-02-30"`, "12", `is not a date`},
	{`now.weekday == "mon"`, "16", `now.weekday is never "mon".`},
	{`now.weekday == "Monday"`, "16", `Did you mean "monday"?`},
	{`protocol == "https"`, "13", `Did you mean "http"?`},
	{`target.scheme == "https"`, "18", `target.scheme is never "https"`},
	{`listener == "dsek"`, "13", `Did you mean "desk"? It can be "desk", "lan".`},
	{`request.method == "get"`, "19", `Methods are written in capitals: "GET".`},
	{`tls.sni == "API.corp.example"`, "12", `Write "api.corp.example".`},
	{`tls.sni == "*.corp.example"`, "12", `Use endswith(tls.sni, ".corp.example"), or sni in match`},
	{`tls.alpn == "h2"`, "1", `Use contains(tls.alpn, "h2")`},
	{`tls.alpn[0] == "h2"`, "9", `contains(tls.alpn, protocol)`},
	{`upper(tls.alpn) == "H2"`, "7", `contains(tls.alpn, protocol)`},
	{`tls.snl == "a.example"`, "1", `Did you mean "tls.sni"?`},
	{`target.sni == "a.example"`, "1", `Did you mean "tls.sni"?`},
	{`tls.ech == "true"`, "1", ""},
	{`target.host == "API.corp.example"`, "16", `Write "api.corp.example".`},
	{`target.host == "api.corp.example."`, "16", `Write "api.corp.example".`},
	{`target.host == "*.corp.example"`, "16", `Use endswith(target.host, ".corp.example")`},
	{`target.host == "bücher.example"`, "16", `Write "xn--bcher-kva.example".`},
	{`target.host == "a b"`, "16", `target.host is never "a b"`},
	{`lower(client.user) == "Anna"`, "23", `Write "anna".`},
	{`1 == "1"`, "1", `A number and a string are never equal`},
	{`true || 1 == "1"`, "9", `A number and a string are never equal`},

	// numbers
	{`client.user + "x" == ""`, "1", `Texts are joined in a template`},
	{`-client.user == 5`, "2", `- needs a number, but this is a string.`},
	{`100 / client.port == 2`, "7", `This can be zero`},
	{`100 % now.minute == 2`, "7", `This can be zero`},
	{`target.port / 0 == 2`, "15", `Nothing can be divided by zero.`},
	{`1 / 0 == 2`, "5", `Nothing can be divided by zero.`},
	{`false && 1 % 0 == 2`, "14", `Nothing can be divided by zero.`},
	{`now.unix * now.unix == 2`, "1", `larger than 9007199254740992`},
	{`target.port == 1e300`, "16", `this one is larger`},
	{`target.port == 99999999999999999999`, "16", `this one is larger`},
	{`tonumber(client.user) == 5`, "1", `tonumber(text, 0)`},
	{`tonumber("x") == client.port`, "10", `"x" is not a number`},
	{`tonumber(now.time) == 5`, "10", `A time of day is no number.`},
	{`min(client.user, 5) == 5`, "5", `min needs a number`},

	// functions
	{`nosuch(client.user)`, "1", `There is no function nosuch.`},
	{`true || nosuch(nosuch2)`, "9", `There is no function nosuch.`},
	{`true || nosuch(nosuch2)`, "16", `There is no "nosuch2"`},
	{`endwith(target.host, "x")`, "1", `Did you mean "endswith"?`},
	{`hassuffix(target.host, "x")`, "1", `Use endswith(text, suffix).`},
	{`len(client.user) > 5`, "1", `Use length(value).`},
	{`credential("x") == client.user`, "1", `credential gives a secret`},
	{`true || can(credential("x"))`, "13", `credential gives a secret`},
	{`can(regex("x", "y"))`, "1", `regex is true or false itself`},
	{`try(client.user, "x") == "x"`, "5", `client.user belongs to the flow. Nothing can fail in a condition`},
	{`can(tonumber(client.user))`, "14", `client.user belongs to the flow.`},
	{`env(client.user) == "x"`, "1", `The environment is read once, at load.`},
	{`env("UNSET") == client.user`, "5", `the environment has no UNSET`},
	{`join(",", [client.user]) == "x"`, "1", `Write a template`},
	{`format("%s", client.user) == "x"`, "1", `Write a template`},
	{`split(".", target.host)[0] == "x"`, "1", `Use startswith`},
	{`startswith(target.host)`, "1", `write startswith(text, prefix)`},
	{`startswith(target.host, "a", "b")`, "1", `write startswith(text, prefix)`},
	{`startswith("a")`, "15", `Not enough function arguments`},
	{`startswith(client.address, "10.")`, "12", `Use cidr(address, networks...), or tostring()`},
	{`startswith(target.addresses, "10.")`, "12", `Use cidr(target.addresses, networks...).`},
	{`startswith(target.host, 5)`, "25", `startswith takes a text here, but this is a number.`},
	{`endswith(target.host, ".Example")`, "23", `Write ".example".`},
	{`endswith(target.host, "*.example")`, "23", `takes no wildcards`},
	{`glob(client.user, target.host)`, "6", `must be known at load`},
	{`glob("[a", target.host)`, "6", `The class is not closed`[4:]},
	{`glob("*.Example", target.host)`, "6", `Write "*.example".`},
	{`regex("(", target.host)`, "7", `"(" is not a regular expression: missing closing )`},
	{`true || regex("(", target.host)`, "15", `is not a regular expression`},
	{`true || regex("(", "x")`, "15", `is not a regular expression`},
	{`regex(client.user, target.host)`, "7", `must be known at load`},
	{`regex("x", client.port)`, "12", `regex takes a text here`},
	{`cidr(client.address)`, "1", `write cidr(address, network...)`},
	{`cidr(client.address, "10.0.0.0/33")`, "22", `not a prefix length`},
	{`cidr(client.address, "10.0.0.1/8")`, "22", `the network is 10.0.0.0/8`},
	{`cidr(client.address, ["10.0.0.0/8", "x"])`, "37", `not an IP address or network`},
	{`true || cidr(client.address, ["10.0.0.0/8", "x"])`, "45", `not an IP address or network`},
	{`cidr(client.address, target.host)`, "22", `must be known at load`},
	{`cidr(client.address, 5)`, "22", `takes networks here`},
	{`cidr(target.host, "10.0.0.0/8")`, "6", `Use target.ip (a literal address) or target.addresses`},
	{`cidr(client.port, "10.0.0.0/8")`, "6", `takes an address here`},
	{`cidr("10.0.0.1", "10.0.0.0/33")`, "18", `not a prefix length`},
	{`contains(client.user, "a")`, "10", `Use strcontains(text, part).`},
	{`contains(local.admins, target.port)`, "10", `A number and a string are never equal`},
	{`contains(["a", 5], client.user)`, "16", `A string and a number are never equal`},
	{`contains(["saturday", "Sunday"], now.weekday)`, "23", `Did you mean "sunday"?`},
	{`contains(["10.0.0.0/8"], client.address)`, "11", `Use cidr(address, "10.0.0.0/8").`},
	{`contains(local.teams, client.user)`, "10", `contains looks into a list, but this is a map`},
	{`contains(["a"], target.addresses)`, "17", `target.addresses is a list itself`},
	{`contains(target.addresses, client.user)`, "28", `target.addresses holds addresses`},
	{`length(client.port) == 1`, "8", `length takes a text or a list`},
	{`lookup(local.teams, client.user) == "x"`, "1", `write lookup(map, key, default)`},
	{`lookup(local.teams, client.user, 5) == 5`, "8", `must be of one type`},
	{`lookup(local.admins, client.user, "x") == "x"`, "8", `lookup takes a map`},
	{`lookup({ mon = 1 }, now.weekday, 0) == 0`, "8", `now.weekday is never "mon"`},
	{`substr(client.user, 0.5, 1) == ""`, "21", `a whole number`},
	{`substr(client.user, now.hour / 2, 1) == ""`, "21", `Use floor()`},
	{`replace(client.user, "", "x") == ""`, "22", `is empty`},
	{`element([], now.hour) == 1`, "9", `The list is empty.`},
	{`format("%99999d", 1) == client.user`, "8", `more than four digits`},
	{`lookup(local.teams...) == ""`, "8", `Only a list can be expanded`},

	// indexes
	{`target.addresses[0] == "10.0.0.1"`, "17", `in no order`},
	{`local.teams[client.user] == "red"`, "12", `Use lookup(map, key, default).`},
	{`local.admins[now.hour] == "a"`, "13", `the index can lie outside of it`},
	{`local.admins[client.user] == "a"`, "13", `The index of a list is a number`},
	{`local.admins[5] == client.user`, "13", `The list has 2 elements, counted from 0`},
	{`true || local.admins[5] == client.user`, "21", `The list has 2 elements, counted from 0`},
	{`local.teams.zoe == client.user`, "12", `There is no key "zoe".`},
	{`local.teams.ana == client.user`, "12", `Did you mean "anna"?`},
	{`local.teams[0] == client.user`, "12", `Invalid index`},
	{`local.nothing[0] == client.user`, "14", `Attempt to index null value`},
	{`local.on[0] == client.user`, "9", `Invalid index`},
	{`request.header == "x"`, "1", `name a field`},
	{`request.header[client.user] == "x"`, "16", `known at load`},
	{`request.header["a b"] == "x"`, "15", `cannot be the name of a header field`},
	{`request.header["a"]["b"] == "x"`, "20", `This is a string`},

	// constants only
	{`contains([for x in local.admins : client.user], "a")`, "35", `A for expression can only be made of values that are known at load`},
	{`contains(client.user[*], "a")`, "10", `A splat expression can only be made`},
	{`contains(target.addresses[*], "a")`, "10", `use contains(list, value) or cidr(address, networks...)`},
	{`{ a = client.user } == null`, "7", `An object can only be made of values`},
	{`"%{ for x in local.admins }${client.user}%{ endfor }" == "x"`, "30", `A for directive`},
	{`[for x in local.admins : nosuch(x)][0] == client.user`, "26", `There is no function nosuch`},
	{`"${local.admins}" == "x"`, "1", `are never equal`},
	{`"a${local.admins}" == "x"`, "5", `A template takes texts`},
	{`"a${null}" == client.user`, "5", `this is null`},
}

func TestInvalid(t *testing.T) {
	for _, tt := range invalidTable {
		t.Run(tt.src, func(t *testing.T) {
			c, diags := Compile(parse(t, tt.src), consts(), Options{Listeners: []string{"desk", "lan"}})
			if c != nil || !diags.HasErrors() {
				t.Fatalf("compiled; diagnostics: %v", diags)
			}
			for _, d := range diags {
				if d.Severity == hcl.DiagInvalid || d.Subject == nil || d.Summary == "" {
					t.Errorf("incomplete diagnostic: %+v", d)
				}
				if text := d.Summary + "; " + d.Detail; strings.Contains(text, tt.want) && fmt.Sprint(d.Subject.Start.Column) == tt.at {
					return
				}
			}
			for _, d := range diags {
				t.Errorf("column %d: %s; %s", d.Subject.Start.Column, d.Summary, d.Detail)
			}
			t.Errorf("want column %s: %s", tt.at, tt.want)
		})
	}
}
