// Command deadletters shows what becomes of records that a job cannot process: they
// wait as dead letters, with the error and all that is known of them, until the job is
// mended, and then go back into the operator that refused them.
//
//	go run ./examples/deadletters run --nats-port 4222 &
//	nats pub orders.new '{"id":1,"user":"ann","quantity":2}'
//	nats pub orders.new '{"id":2,"user":"bob","quantity":-2}'
//	nats pub orders.new 'no order at all'
//	go run ./examples/deadletters dlq ls --nats nats://127.0.0.1:4222
//
// The first version of the job takes no returns, which have a negative quantity, and
// panics for users without a name. The second takes both:
//
//	ORDERS_VERSION=2 go run ./examples/deadletters run --nats-port 4222 &
//	go run ./examples/deadletters dlq retry --operator check --nats nats://127.0.0.1:4222
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/connectors/jetstream"
)

// Order is a record of the stream ORDERS.
type Order struct {
	ID       int    `json:"id"`
	User     string `json:"user"`
	Quantity int    `json:"quantity"`
}

// Booked is an order that was booked, a record of the stream BOOKED.
type Booked struct {
	ID      int    `json:"id"`
	Account string `json:"account"`
	// Balance is that of the account after the order.
	Balance int `json:"balance"`
}

func main() { weir.Main(job(os.Getenv("ORDERS_VERSION") == "2")) }

// job books orders; mended says that it is its second version.
func job(mended bool) weir.JobSpec {
	spec := weir.NewJob("orders", func(j *weir.Job) {
		refused := weir.OnError(weir.DeadLetter)
		orders := weir.From(j, "orders", jetstream.Stream[Order]("ORDERS", jetstream.JSON()), weir.ProcessingTime[Order](), refused, weir.MaxRecord(1000))
		checked := weir.TryMap(orders, "check", func(o Order) (Order, error) {
			if o.Quantity < 0 && !mended {
				return o, fmt.Errorf("order %d has the quantity %d", o.ID, o.Quantity)
			}
			return o, nil
		}, refused)
		named := weir.Map(checked, "name", func(o Order) Order {
			if mended && o.User == "" {
				o.User = "anonymous"
			}
			o.User = strings.ToUpper(o.User[:1]) + o.User[1:]
			return o
		}, refused)
		byUser := weir.KeyBy(named, "by-user", func(o Order) string { return o.User })
		booked := weir.Process(byUser, "book", func() weir.KeyedProcess[string, Order, Booked] { return &book{} }, refused)
		weir.To(booked, "booked", jetstream.Publish("BOOKED", func(Booked) string { return "booked" }, jetstream.JSON()))
		weir.DeadLetters(j, "dead-letters", weir.DeadLetterStream("ORDERS-DEAD"))
	})
	return spec.WithStreams(jetstream.StreamSpec{Name: "ORDERS", Subjects: []string{"orders.*"}}, jetstream.StreamSpec{Name: "BOOKED", Subjects: []string{"booked"}})
}
