package expr

import (
	"strings"
	"time"

	"viaduct/connmodel"
)

// weekdays are the values of now.weekday, by time.Weekday.
var weekdays = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// nowNames are the names of the clock. All of them derive from Facts.Time, which is stamped once per flow in the
// gateway's time zone.
var nowNames = []*name{
	numberName("now.hour", "hour, 0 to 23, in the gateway's time zone", 0, 23,
		func(f *connmodel.Facts) float64 { return float64(f.Time.Hour()) }),
	numberName("now.minute", "minute, 0 to 59", 0, 59,
		func(f *connmodel.Facts) float64 { return float64(f.Time.Minute()) }),
	numberName("now.second", "second, 0 to 59", 0, 59,
		func(f *connmodel.Facts) float64 { return float64(f.Time.Second()) }),
	stringName("now.weekday", `day of the week, "monday" to "sunday"`, "",
		func(f *connmodel.Facts) string { return weekdays[f.Time.Weekday()] }, domain{values: weekdays, lower: true}),
	numberName("now.day", "day of the month, 1 to 31", 1, 31,
		func(f *connmodel.Facts) float64 { return float64(f.Time.Day()) }),
	numberName("now.month", "month, 1 to 12", 1, 12,
		func(f *connmodel.Facts) float64 { return float64(f.Time.Month()) }),
	numberName("now.year", "year", 1, 9999,
		func(f *connmodel.Facts) float64 { return float64(f.Time.Year()) }),
	{name: "now.date", typ: "date", kind: kindDate, meaning: `date as "2026-11-23"; can be compared with < and >`,
		num: func(f *connmodel.Facts) float64 { return dateNumber(f.Time) },
		str: func(f *connmodel.Facts) string { return f.Time.Format(time.DateOnly) }, span: span{10101, 99991231, true}},
	{name: "now.time", typ: "time of day", kind: kindClock, meaning: `time of day as "09:30"; can be compared with < and >`,
		num: func(f *connmodel.Facts) float64 { return clockNumber(f.Time) },
		str: func(f *connmodel.Facts) string { return f.Time.Format("15:04") }, span: span{0, 24*60 - 1, true}},
	numberName("now.unix", "seconds since 1970-01-01 00:00 UTC", -1<<37, 1<<38,
		func(f *connmodel.Facts) float64 { return float64(f.Time.Unix()) }),
}

func dateNumber(t time.Time) float64 {
	y, m, d := t.Date()
	return float64(y*10000 + int(m)*100 + d)
}

func clockNumber(t time.Time) float64 {
	h, m, _ := t.Clock()
	return float64(h*60 + m)
}

// parseDate reads a literal that is compared with now.date.
func parseDate(s string) (v float64, problem string) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, `is not a date: write year, month and day as in "2026-11-23"`
	}
	return dateNumber(t), ""
}

// parseClock reads a literal that is compared with now.time; "24:00" is the end of the day.
func parseClock(s string) (v float64, problem string) {
	if s == "24:00" {
		return 24 * 60, ""
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") || strings.Contains(s, ".") {
		return 0, `is not a time of day: write hours and minutes as in "09:30"`
	}
	return clockNumber(t), ""
}
