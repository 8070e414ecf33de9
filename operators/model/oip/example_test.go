package oip_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/oip"
)

// A model that takes two tensors and returns one.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"model_name": "churn", "model_version": "3", "outputs": [{"name": "score", "datatype": "FP32", "shape": [2, 1], "data": [0.25, 0.75]}]}`)
	}))
	defer server.Close()

	type customer struct {
		Age   float32
		Spent [3]float64
	}
	client, err := oip.New(
		oip.Endpoint{URL: server.URL, Model: "churn", Version: "3", Access: model.Access{Allow: []string{"loopback"}}},
		oip.Codec[customer, float64]{
			Inputs: []oip.Column[customer]{
				oip.Scalar("age", func(c *customer) float32 { return c.Age }),
				oip.Vector("spent", 3, func(c *customer, row []float64) { copy(row, c.Spent[:]) }),
			},
			Decode: func(row *oip.Row) (float64, error) { return row.Float("score"), nil },
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	results, err := client.Invoke(context.Background(), []model.Call[customer]{
		{Key: "shop/churn/1", Attempt: 1, In: customer{41, [3]float64{1, 2, 3}}},
		{Key: "shop/churn/2", Attempt: 1, In: customer{23, [3]float64{4, 5, 6}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range results {
		fmt.Println(r.Out, "by version", r.Version)
	}
	// Output:
	// 0.25 by version 3
	// 0.75 by version 3
}
