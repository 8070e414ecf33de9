package httpjson_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/weirflow/weir/operators/model"
	"github.com/weirflow/weir/operators/model/httpjson"
)

// A model with a form of its own.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"result": [{"label": "angry", "score": 0.9}]}`)
	}))
	defer server.Close()

	type ticket struct{ Text string }
	client, err := httpjson.New(
		httpjson.Endpoint{URL: server.URL, Access: model.Access{Allow: []string{"loopback"}}},
		httpjson.Codec[ticket, string]{Template: `{"text": {{.Text}}}`, Pointer: "/result/0/label"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	results, err := client.Invoke(context.Background(), []model.Call[ticket]{{Key: "shop/mood/1", Attempt: 1, In: ticket{`"Again" broken!`}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(results[0].Out)
	// Output: angry
}
