package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
)

// askOne publishes a prompt and waits for what becomes of it.
func askOne(ctx context.Context, nc *nats.Conn, conversation string, p Prompt) (id, text string, err error) {
	js, err := natsjs.New(nc)
	if err != nil {
		return "", "", err
	}
	create := spec(prompted)
	create.Name = stream(prompted)
	if _, err := jetstream.Ensure(ctx, nc, create); err != nil {
		return "", "", err
	}
	id = strings.ToLower(rand.Text())
	e, err := weir.NewEvent(prompted, id, conversation, time.Now(), p)
	if err != nil {
		return id, "", err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return id, "", err
	}
	// The message's ID lets a client try again when the outcome is not known.
	if _, err := js.Publish(ctx, e.Subject(prefix), body, natsjs.WithMsgID(e.ID)); err != nil {
		return id, "", err
	}
	err = poll(ctx, func() (bool, error) {
		for _, typ := range []string{notified, abandoned} {
			s, err := js.Stream(ctx, stream(typ))
			if errors.Is(err, natsjs.ErrStreamNotFound) {
				continue
			}
			if err != nil {
				return false, err
			}
			m, err := s.GetLastMsgForSubject(ctx, prefix+"."+typ+"."+id)
			if errors.Is(err, natsjs.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return false, err
			}
			n, err := readNotification(m.Data)
			if text = n.Text; typ == abandoned {
				text = "no answer: " + text
			}
			return true, err
		}
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer yet; `weir trace %s` shows how far it is", id)
	}
	return id, text, err
}

func readNotification(data []byte) (Notification, error) {
	var e weir.Event
	if err := json.Unmarshal(data, &e); err != nil {
		return Notification{}, err
	}
	return weir.EventPayload[Notification](e)
}

// readAll reads all events of a type, from a server that holds still or not.
func readAll(ctx context.Context, js natsjs.JetStream, typ string) ([]weir.Event, error) {
	s, err := js.Stream(ctx, stream(typ))
	if errors.Is(err, natsjs.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := s.OrderedConsumer(ctx, natsjs.OrderedConsumerConfig{FilterSubjects: []string{prefix + "." + typ + ".*"}})
	if err != nil {
		return nil, err
	}
	if c.CachedInfo().NumPending == 0 {
		return nil, nil
	}
	it, err := c.Messages(natsjs.PullMaxMessages(1000))
	if err != nil {
		return nil, err
	}
	defer it.Stop()
	var out []weir.Event
	for {
		m, err := it.Next(natsjs.NextContext(ctx))
		if err != nil {
			return nil, err
		}
		var e weir.Event
		if err := json.Unmarshal(m.Data(), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Subject(), err)
		}
		out = append(out, e)
		if meta, err := m.Metadata(); err != nil || meta.NumPending == 0 {
			return out, err
		}
	}
}
