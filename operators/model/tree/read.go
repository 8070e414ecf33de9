package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/weirflow/weir/internal/base"
)

// Codes of the errors of this package.
const (
	// CodeModel: a file is no model that can be used.
	CodeModel = "WEIR-0640"
	// CodeExpect: a model is not the one that is expected.
	CodeExpect = "WEIR-0641"
)

// Load reads the model in a file. Its errors have the code CodeModel.
func Load(path string, limits Limits) (*Model, error) {
	b, err := readFile(path, limits.withDefaults().Bytes)
	if err != nil {
		return nil, modelError(path, err)
	}
	return read(b, path, limits)
}

// Read is Load for the content of a file.
func Read(b []byte, limits Limits) (*Model, error) { return read(b, "", limits) }

func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("it is larger than %d bytes", most)
	}
	return b, err
}

func modelError(where string, err error) error {
	return &base.Error{
		Code: CodeModel, What: "the model cannot be used", Where: where, Cause: err,
		Next: "save it again in a format that is read, see the documentation of package operators/model/tree",
	}
}

func read(b []byte, where string, limits Limits) (*Model, error) {
	m := &Model{link: link{scale: 1}}
	bl := &builder{m: m, limits: limits.withDefaults()}
	var err error
	if int64(len(b)) > bl.limits.Bytes {
		err = fmt.Errorf("it is larger than %d bytes", bl.limits.Bytes)
	} else {
		err = bl.parse(b)
	}
	if err == nil {
		err = bl.finish()
	}
	if err != nil {
		if m.info.Format != "" {
			err = fmt.Errorf("%s: %w", m.info.Format, err)
		}
		return nil, modelError(where, err)
	}
	sum := sha256.Sum256(b)
	m.info.SHA256 = hex.EncodeToString(sum[:])
	return m, nil
}

// parse recognises the format by the first bytes.
func (b *builder) parse(data []byte) error {
	text := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(text) == 0:
		return fmt.Errorf("it is empty")
	case bytes.HasPrefix(text, []byte("tree\n")), bytes.HasPrefix(text, []byte("tree\r\n")):
		b.m.info.Format = FormatLightGBM
		return b.lightgbmText(string(text))
	case data[0] == '{' && len(data) > 2 && isUBJ(data):
		b.m.info.Format = FormatXGBoostUBJ
		return b.xgboostUBJ(data)
	case text[0] == '{':
		return b.json(text)
	case len(data) >= xgbHeader:
		b.m.info.Format = FormatXGBoost
		return b.xgboostBinary(data)
	}
	return fmt.Errorf("its format is not known")
}
