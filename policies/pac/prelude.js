// What a script finds besides the language. It is evaluated before the script, and takes away the raw functions of the host, whose names
// begin with "$": they are called with primitive values alone, so that nothing of the script runs while the host does. The
// value of the whole is the function that asks the script.
(function (g) {
  "use strict";
  const String = g.String;
  const has = g.$has, net = g.$net, date = g.$date, glob = g.$glob, say = g.$alert, clock = g.$clock;
  for (const name of ["$has", "$net", "$date", "$glob", "$alert", "$clock", "performance"]) delete g[name];

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

  // Date is that of the language in the zone of the policy, where the engine knows only that of the process. Who looks at the clock, or draws
  // lots, is known: the answer is not kept.
  const Real = g.Date, P = Real.prototype, apply = g.Reflect.apply, NaN = g.NaN;
  const bound = function (f) { return Function.prototype.call.bind(f); };
  const time = bound(P.getTime), setTime = bound(P.setTime), utc = Real.UTC, parse = Real.parse, adopt = g.Object.setPrototypeOf;
  const test = bound(RegExp.prototype.exec);
  const zone = function (t) { return t === t ? clock("zone", t) : 0; };
  const shifted = function (d) { const t = time(d); return new Real(t + zone(t)); };
  const unshifted = function (t) { return t - zone(t - zone(t)); };
  const part = { __proto__: null };
  for (const name of ["FullYear", "Month", "Date", "Hours", "Minutes", "Seconds", "Milliseconds", "Day"]) {
    const get = part[name] = bound(P["getUTC" + name]), set = P["setUTC" + name];
    P["get" + name] = function () { return get(shifted(this)); };
    if (set) P["set" + name] = function (a, b, c, d) {
      let at = shifted(this);
      if (name === "FullYear" && time(at) !== time(at)) at = new Real(0);
      apply(set, at, arguments);
      return setTime(this, unshifted(time(at)));
    };
  }
  P.getYear = function () { return part.FullYear(shifted(this)) - 1900; };
  P.setYear = function (y) { y = +y; return this.setFullYear(y >= 0 && y <= 99 ? y + 1900 : y); };
  P.getTimezoneOffset = function () { const t = time(this); return t === t ? -zone(t) / 60000 : NaN; };
  const two = function (n) { return n < 10 ? "0" + n : "" + n; };
  const days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const day = function (d) { return days[part.Day(d)] + " " + months[part.Month(d)] + " " + two(part.Date(d)) + " " + part.FullYear(d); };
  const clocked = function (d, t) {
    const off = zone(t) / 60000, far = off < 0 ? -off : off;
    return two(part.Hours(d)) + ":" + two(part.Minutes(d)) + ":" + two(part.Seconds(d)) + " GMT" + (off < 0 ? "-" : "+") + two((far - far % 60) / 60) + two(far % 60 - far % 1);
  };
  const usDay = function (d) { return two(part.Month(d) + 1) + "/" + two(part.Date(d)) + "/" + part.FullYear(d); };
  const usTime = function (d) {
    const h = part.Hours(d);
    return two(h % 12 || 12) + ":" + two(part.Minutes(d)) + ":" + two(part.Seconds(d)) + (h < 12 ? " AM" : " PM");
  };
  const written = function (name, f) {
    P[name] = function () { const t = time(this); return t === t ? f(shifted(this), t) : "Invalid Date"; };
    return bound(P[name]);
  };
  const text = written("toString", function (d, t) { return day(d) + " " + clocked(d, t); });
  written("toDateString", day);
  written("toTimeString", clocked);
  written("toLocaleDateString", usDay);
  written("toLocaleTimeString", usTime);
  written("toLocaleString", function (d) { return usDay(d) + ", " + usTime(d); });
  const zoned = /\b(?:Z|GMT|UTC?|[ECMP][SD]T)\b|\dZ\s*$|:\d\d[^+-]*[+-]\d\d:?\d\d|^\s*[+-]?\d{4,6}(?:-\d\d){0,2}\s*$/i, iso = /^\s*[+-]?\d{4,6}(?:-\d\d){0,2}T/;
  const read = function (s) {
    s = "" + s;
    if (s.length > 200) return NaN;
    if (test(zoned, s)) return parse(s);
    const t = parse(s + (test(iso, s) ? "Z" : " GMT"));
    return t === t ? unshifted(t) : NaN;
  };
  const Day = function Date(a, b, c, d, e, f, h) {
    const n = arguments.length;
    if (!new.target) return text(new Real(clock("now", 0)));
    if (n === 1 && typeof a === "object" && a !== null) {
      let t, is = true;
      try { t = time(a); } catch (_) { is = false; }
      if (is) a = t;
      else if (typeof (a = a.valueOf()) === "object") a = "" + a;
    }
    const made = new Real(n === 0 ? clock("now", 0) : n > 1 ? unshifted(apply(utc, Real, arguments)) : typeof a === "string" ? read(a) : a);
    return new.target === Day ? made : adopt(made, new.target.prototype);
  };
  const hidden = function (of, name, value, fixed) { Object.defineProperty(of, name, { value: value, writable: !fixed, configurable: !fixed, enumerable: false }); };
  hidden(Day, "prototype", P, true);
  hidden(Day, "length", 7);
  hidden(Day, "now", function now() { return clock("now", 0); });
  hidden(Day, "parse", function (s) { return read(s); });
  hidden(Day, "UTC", utc);
  hidden(P, "constructor", Day);
  hidden(g, "Date", Day);
  const chance = g.Math.random;
  hidden(g.Math, "random", function random() { clock("chance", 0); return chance(); });

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
