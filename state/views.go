package state

type currentKey struct{}

type viewState struct{}
