package main

import (
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// helpWidth is how wide help is at most. Commands write their texts as they like; they are broken here.
const helpWidth = 100

// The groups of commands, in the order of the help.
const (
	groupGateway = "gateway"
	groupAnswers = "answers"
	groupPolicy  = "policy"
	groupParts   = "parts"
)

// groupOf says where in the help of the program a command stands; one that is not here stands with the rest.
var groupOf = map[string]string{
	"run": groupGateway, "reload": groupGateway, "drain": groupGateway, "close": groupGateway, "status": groupGateway, "top": groupGateway, "dashboard": groupGateway,
	"connections": groupAnswers, "connection": groupAnswers, "explain": groupAnswers, "trace": groupAnswers, "plan": groupAnswers, "journal": groupAnswers,
	"validate": groupPolicy, "fmt": groupPolicy, "test": groupPolicy, "import": groupPolicy,
	"upstream": groupParts, "list": groupParts, "pac": groupParts, "ca": groupParts, "cert": groupParts, "resolve": groupParts,
}

// arrange puts the commands of the program into groups, and makes all help as wide as it should be.
func arrange(root *cobra.Command) {
	root.AddGroup(
		&cobra.Group{ID: groupGateway, Title: "A gateway that runs:"},
		&cobra.Group{ID: groupAnswers, Title: "Why, what and whither:"},
		&cobra.Group{ID: groupPolicy, Title: "Policies:"},
		&cobra.Group{ID: groupParts, Title: "Parts of a policy, looked at by themselves:"},
	)
	for _, c := range root.Commands() {
		c.GroupID = groupOf[c.Name()]
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 100 "))
	eachCommand(root, func(c *cobra.Command) { c.Long = rewrap(c.Long, helpWidth) })
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}

// rewrap breaks the paragraphs of a text anew. Lines that are indented, and the line before them, are a table or an example and stay.
func rewrap(text string, width int) string {
	var out, words []string
	flush := func() {
		n, line := 0, ""
		for _, w := range words {
			size := utf8.RuneCountInString(w)
			if n > 0 && n+1+size > width {
				out = append(out, line)
				n, line = 0, ""
			}
			if n > 0 {
				line += " "
				n++
			}
			line, n = line+w, n+size
		}
		if n > 0 {
			out = append(out, line)
		}
		words = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" || line[0] == ' ' || line[0] == '\t' {
			flush()
			out = append(out, line)
			continue
		}
		words = append(words, strings.Fields(line)...)
	}
	flush()
	return strings.Join(out, "\n")
}
