package httpjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/template"
	"text/template/parse"
)

// parseTemplate parses a template and makes all that it prints JSON.
func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("body").Option("missingkey=error").Funcs(template.FuncMap{
		valueFunc: jsonValue, insideFunc: jsonInside,
	}).Parse(text)
	if err != nil {
		return nil, err
	}
	if t.Tree == nil || t.Root == nil || len(t.Templates()) > 1 {
		return nil, errors.New("it has no text, or defines others")
	}
	end, err := escape(t.Root, outside)
	if err != nil {
		return nil, err
	}
	if end != outside {
		return nil, errors.New("a string in it has no end")
	}
	return t, nil
}

// The functions that are put behind what is printed.
const valueFunc, insideFunc = "_json_value", "_json_inside"

func jsonValue(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// jsonInside is what stands between the quotes of a string: the inside of one, a
// number or a truth value.
func jsonInside(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	switch b[0] {
	case '"':
		return string(b[1 : len(b)-1]), nil
	case '{', '[', 'n':
		return "", fmt.Errorf("a %T has no place within a string", v)
	}
	return string(b), nil
}

// place is where in the body a part of the template begins.
type place uint8

const (
	outside place = iota
	inString
	// afterBackslash is within a string.
	afterBackslash
)

// after is the place after a text.
func (p place) after(text []byte) place {
	for _, c := range text {
		switch {
		case p == afterBackslash:
			p = inString
		case p == inString && c == '\\':
			p = afterBackslash
		case c == '"' && p == inString:
			p = outside
		case c == '"':
			p = inString
		}
	}
	return p
}

// escape makes what is printed below a list of nodes JSON, and returns the place
// after them.
func escape(list *parse.ListNode, at place) (place, error) {
	if list == nil {
		return at, nil
	}
	for _, n := range list.Nodes {
		var err error
		switch n := n.(type) {
		case *parse.TextNode:
			at = at.after(n.Text)
		case *parse.ActionNode:
			err = escapeAction(n, at)
		case *parse.IfNode:
			err = escapeBranches(&n.BranchNode, at)
		case *parse.WithNode:
			err = escapeBranches(&n.BranchNode, at)
		case *parse.RangeNode:
			err = escapeBranches(&n.BranchNode, at)
		case *parse.CommentNode:
		default: // calls of other templates, and ways out of a loop
			err = fmt.Errorf("%s cannot be used", n)
		}
		if err != nil {
			return at, err
		}
	}
	return at, nil
}

func escapeAction(n *parse.ActionNode, at place) error {
	if len(n.Pipe.Decl) > 0 { // prints nothing
		return nil
	}
	name := valueFunc
	switch at {
	case inString:
		name = insideFunc
	case afterBackslash:
		return fmt.Errorf("%s follows a backslash", n)
	}
	f := parse.NewIdentifier(name).SetPos(n.Pos)
	n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{f}})
	return nil
}

// escapeBranches goes over both branches, which must leave off where they began, in a
// string or outside of one: it is not known which is taken, and how often.
func escapeBranches(n *parse.BranchNode, at place) error {
	for _, list := range []*parse.ListNode{n.List, n.ElseList} {
		end, err := escape(list, at)
		if err != nil {
			return err
		}
		if end != at {
			return fmt.Errorf("a string begins or ends within {{%s}}", n.Pipe)
		}
	}
	return nil
}
