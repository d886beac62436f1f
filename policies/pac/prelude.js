// What a script finds besides the language. It is evaluated before the script, and takes away the raw functions of the host, whose names
// begin with "$": they are called with primitive values alone, so that nothing of the script runs while the host does. The
// value of the whole is the function that asks the script.
(function (g) {
  "use strict";
  const String = g.String;
  const has = g.$has, net = g.$net, date = g.$date, glob = g.$glob, say = g.$alert;
  for (const name of ["$has", "$net", "$date", "$glob", "$alert"]) delete g[name];

  const most = 16384;
  const s = function (x) {
    x = "" + x;
    if (x.length > most) throw new RangeError("a text of more than 16384 characters is given to a PAC function");
    return x;
  };
  const v = function (x) { return typeof x === "number" ? x : s(x); };
  const define = function (name, f) {
    Object.defineProperty(g, name, { value: f, writable: true, configurable: true, enumerable: false });
  };

  define("isPlainHostName", function (host) { return has("plain", s(host), ""); });
  const ends = Function.prototype.call.bind(String.prototype.endsWith); // the most used function does not cross over
  define("dnsDomainIs", function (host, domain) { return ends("" + host, "" + domain); });
  define("localHostOrDomainIs", function (host, hostdom) { return has("local", s(host), s(hostdom)); });
  define("dnsDomainLevels", function (host) { return has("levels", s(host), ""); });
  define("shExpMatch", function (str, exp) { return glob(s(str), s(exp)); });
  define("convert_addr", function (ip) { return net("convert", s(ip), "", ""); });
  define("isResolvable", function (host) { return net("resolvable", s(host), "", ""); });
  define("isResolvableEx", function (host) { return net("resolvableEx", s(host), "", ""); });
  define("dnsResolve", function (host) { return net("resolve", s(host), "", ""); });
  define("dnsResolveEx", function (host) { return net("resolveEx", s(host), "", ""); });
  define("isInNet", function (host, pattern, mask) { return net("in", s(host), s(pattern), s(mask)); });
  define("isInNetEx", function (host, prefix) { return net("inEx", s(host), s(prefix), ""); });
  define("myIpAddress", function () { return net("my", "", "", ""); });
  define("myIpAddressEx", function () { return net("myEx", "", "", ""); });
  define("sortIpAddressList", function (list) { return net("sort", s(list), "", ""); });
  define("getClientVersion", function () { return "1.0"; });
  define("weekdayRange", function (a, b, c) { return date("weekday", arguments.length, v(a), v(b), v(c)); });
  define("dateRange", function (a, b, c, d, e, f, h) { return date("date", arguments.length, v(a), v(b), v(c), v(d), v(e), v(f), v(h)); });
  define("timeRange", function (a, b, c, d, e, f, h) { return date("time", arguments.length, v(a), v(b), v(c), v(d), v(e), v(f), v(h)); });
  define("alert", function (x) {
    x = "" + x;
    say(x.length > most ? "(a text of more than 16384 characters)" : x);
  });

  const thrown = function (e) {
    let text = "";
    try { text = typeof e === "object" && e !== null ? "" + e : typeof e + " " + String(e); } catch (_) { text = "something that has no text"; }
    return "!throw " + (text.length > 500 ? "an error with a long text" : text);
  };
  return function (url, host, check) {
    try {
      const plain = typeof FindProxyForURL === "function";
      if (!plain && typeof FindProxyForURLEx !== "function") return "!none";
      if (check) return "!ok";
      const r = plain ? FindProxyForURL(url, host) : FindProxyForURLEx(url, host);
      if (typeof r === "string") return r.length > 65536 ? "!long" : "=" + r;
      return r === null ? "!null" : "!" + typeof r;
    } catch (e) {
      return thrown(e);
    }
  };
})(globalThis)
