package admin

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"viaduct/connmodel"
)

var update = flag.Bool("update", false, "write the schemas of the types of this package into openapi.json")

// documented are the types of answers and questions: their schemas are made of them, with the comments of their fields.
var documented = []any{
	Status{}, ReloadResult{}, Configuration{}, Rules{}, ShadowReport{}, Question{}, DrainResult{}, UpstreamDrain{}, ResetResult{}, ListResult{}, UpstreamEvent{},
}

// TestSchemas: the document says of every type what it is. "go test ./router/admin -run TestSchemas -update" makes it so.
func TestSchemas(t *testing.T) {
	var doc struct {
		OpenAPI    string          `json:"openapi"`
		Info       json.RawMessage `json:"info"`
		Servers    json.RawMessage `json:"servers"`
		Security   json.RawMessage `json:"security"`
		Tags       json.RawMessage `json:"tags"`
		Paths      json.RawMessage `json:"paths"`
		Components struct {
			SecuritySchemes json.RawMessage            `json:"securitySchemes"`
			Parameters      json.RawMessage            `json:"parameters"`
			Responses       json.RawMessage            `json:"responses"`
			Schemas         map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	was, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(was))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	g := &schemas{comments: fieldComments(t), all: map[string]any{}}
	for _, v := range documented {
		g.of(reflect.TypeOf(v))
	}
	if doc.Components.Schemas == nil {
		doc.Components.Schemas = map[string]json.RawMessage{}
	}
	var stale []string
	for name, s := range g.all {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var old bytes.Buffer
		if have := doc.Components.Schemas[name]; have != nil {
			if err := json.Compact(&old, have); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(old.Bytes(), b) {
			stale = append(stale, name)
		}
		doc.Components.Schemas[name] = b
	}
	if len(stale) == 0 {
		return
	}
	slices.Sort(stale)
	if !*update {
		t.Fatalf("openapi.json does not say what these are now: %v. Run: go test ./router/admin -run TestSchemas -update", stale)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("openapi.json", out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// schemas makes schemas of Go types.
type schemas struct {
	comments map[string]map[string]string // type, field
	all      map[string]any
}

func (g *schemas) of(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[connmodel.ID]():
		return map[string]any{"type": "string", "format": "uuid"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Int32, reflect.Uint32, reflect.Uint16:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Struct:
		if g.all[t.Name()] == nil {
			g.all[t.Name()] = true // for those that hold themselves
			g.all[t.Name()] = g.object(t)
		}
		return map[string]any{"$ref": "#/components/schemas/" + t.Name()}
	}
	panic("no schema for " + t.String())
}

func (g *schemas) object(t reflect.Type) map[string]any {
	properties := map[string]any{}
	required := []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		s := g.of(f.Type)
		if c := g.comments[t.Name()][f.Name]; c != "" {
			if s["$ref"] != nil { // beside a reference nothing counts in 3.0
				s = map[string]any{"allOf": []any{s}}
			}
			s["description"] = c
		}
		if f.Type.Kind() == reflect.Slice && !strings.Contains(rest, "omitempty") {
			s["nullable"] = true
		}
		properties[name] = s
		if !strings.Contains(rest, "omitempty") && t != reflect.TypeFor[Question]() {
			required = append(required, name)
		}
	}
	o := map[string]any{"type": "object", "properties": properties}
	if c := g.comments[t.Name()][""]; c != "" {
		o["description"] = c
	}
	if len(required) > 0 {
		slices.Sort(required)
		o["required"] = required
	}
	if t == reflect.TypeFor[Question]() {
		o["additionalProperties"] = false
	}
	return o
}

// fieldComments reads what the source says of types ("") and their fields.
func fieldComments(t *testing.T) map[string]map[string]string {
	all := map[string]map[string]string{}
	fset := token.NewFileSet()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, e.Name(), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				st, ok := ts.Type.(*ast.StructType)
				if !ok {
					continue
				}
				m := map[string]string{"": oneSentence(gen.Doc.Text())}
				for _, field := range st.Fields.List {
					text := oneSentence(field.Comment.Text())
					if text == "" {
						text = oneSentence(field.Doc.Text())
					}
					for _, n := range field.Names {
						m[n.Name] = text
					}
				}
				all[ts.Name.Name] = m
			}
		}
	}
	return all
}

func oneSentence(s string) string { return strings.Join(strings.Fields(s), " ") }

// TestRoutesAreDocumented: every route is in the document, and the other way round.
func TestRoutesAreDocumented(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string                     `json:"operationId"`
			Responses   map[string]json.RawMessage `json:"responses"`
		}
	}
	if err := json.Unmarshal(Document(), &doc); err != nil {
		t.Fatal(err)
	}
	inDoc := map[string]bool{}
	ids := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			if method == "parameters" {
				continue
			}
			inDoc[strings.ToUpper(method)+" "+path] = true
			if op.OperationID == "" || ids[op.OperationID] || len(op.Responses) == 0 {
				t.Errorf("%s %s: operationId %q, %d responses", method, path, op.OperationID, len(op.Responses))
			}
			ids[op.OperationID] = true
		}
	}
	for _, rt := range table {
		pattern := strings.TrimSuffix(rt.pattern, "{$}")
		if pattern == "GET /ui/" {
			pattern += "{path}"
		}
		if !inDoc[pattern] {
			t.Errorf("%s is not in openapi.json", pattern)
		}
		delete(inDoc, pattern)
	}
	for _, p := range slices.Sorted(maps.Keys(inDoc)) {
		t.Errorf("openapi.json has %s, which is no route", p)
	}
}
