package main

import (
	"fmt"

	"github.com/weirflow/weir"
	"github.com/weirflow/weir/state"
)

// book keeps the balance of every account. It checks before it changes anything: what
// a refused order has changed would stay.
type book struct {
	weir.NoTimers[string, Booked]
	balance *state.Value[int]
}

// Declare implements weir.KeyedProcess.
func (b *book) Declare(d *weir.Declarer) { b.balance = weir.ValueState[int](d, "balance") }

// OnRecord implements weir.KeyedProcess.
func (b *book) OnRecord(c *weir.Context[string, Booked], o Order) error {
	if o.Quantity == 0 {
		return fmt.Errorf("order %d is of nothing", o.ID)
	}
	n, _ := b.balance.Get()
	n += o.Quantity
	b.balance.Set(n)
	c.Emit(Booked{ID: o.ID, Account: c.Key(), Balance: n})
	return nil
}
