// A broadcast server on gobwas/ws over epoll: every WebSocket gets every publication. One goroutine serves all
// subscribers, so an idle one has neither a goroutine nor a buffer.
//
// Usage: rival-gobwas-ws LISTEN PUBLISH, the addresses for WebSockets and for publications.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net/http"
	"net/netip"
	"os"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

const (
	headBytesMax    = 8 << 10
	messageBytesMax = 64 << 10
	bodyBytesMax    = 1 << 20
	// Bytes that may wait for one subscriber; one that is further behind is dropped.
	pendingBytesMax = 64 << 10
	pingInterval    = 30 * time.Second
	events          = 256
	// Publications that may wait for the loop; further publishers wait for their answer.
	waitingPublications = 64
)

var errGone = errors.New("gone")

// A subscriber, in the table at its descriptor.
type subscriber struct {
	// Received and not yet whole: a head, or a frame. Nil while idle.
	input []byte
	// What the kernel would not take.
	pending []byte
	here    bool
	open    bool
	// Which second of the ping interval is its own.
	slot uint8
}

type server struct {
	epoll, listener, wake int
	subscribers           []subscriber
	publications          chan []byte
	scratch               []byte
	upgrader              ws.Upgrader
	nextSlot              int
	lastPing              int64
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: LISTEN PUBLISH")
	}
	server, err := listen(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe(os.Args[2], http.HandlerFunc(server.publish))) }()
	log.Fatal(server.run())
}

func listen(address string) (*server, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	flags := unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	listener, err := unix.Socket(unix.AF_INET, flags, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err := unix.Bind(listener, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		return nil, err
	}
	if err := unix.Listen(listener, 4096); err != nil {
		return nil, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	s := &server{
		epoll: epoll, listener: listener, wake: wake,
		publications: make(chan []byte, waitingPublications),
		scratch:      make([]byte, messageBytesMax),
		lastPing:     time.Now().Unix(),
	}
	for _, fd := range []int{listener, wake} {
		if err := s.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// publish takes a publication over HTTP; the frame is made once for all subscribers.
func (s *server) publish(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytesMax))
	if err != nil || r.Method != http.MethodPost || !utf8.Valid(body) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.publications <- ws.MustCompileFrame(ws.NewTextFrame(body))
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(s.wake, one[:])
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) run() error {
	ready := make([]unix.EpollEvent, events)
	for {
		count, err := unix.EpollWait(s.epoll, ready, 1000)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, event := range ready[:max(count, 0)] {
			switch fd := int(event.Fd); fd {
			case s.listener:
				s.accept()
			case s.wake:
				s.broadcast()
			default:
				s.serve(fd, event.Events)
			}
		}
		s.pingSome()
	}
}

func (s *server) watch(operation, fd int, events uint32) error {
	return unix.EpollCtl(s.epoll, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

func (s *server) accept() {
	for range events {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if s.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			unix.Close(fd)
			continue
		}
		for len(s.subscribers) <= fd {
			s.subscribers = append(s.subscribers, subscriber{})
		}
		s.nextSlot = (s.nextSlot + 1) % int(pingInterval/time.Second)
		s.subscribers[fd] = subscriber{here: true, slot: uint8(s.nextSlot)}
	}
}

func (s *server) drop(fd int) {
	s.subscribers[fd] = subscriber{}
	unix.Close(fd)
}

// serve deals with what epoll says of a subscriber; one that fails is dropped.
func (s *server) serve(fd int, events uint32) {
	if fd >= len(s.subscribers) || !s.subscribers[fd].here {
		return
	}
	if events&unix.EPOLLOUT != 0 && s.flush(fd) != nil {
		s.drop(fd)
		return
	}
	if events&^unix.EPOLLOUT != 0 && s.receive(fd) != nil {
		s.drop(fd)
	}
}

func (s *server) receive(fd int) error {
	count, err := unix.Read(fd, s.scratch)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil || count == 0 {
		return errGone
	}
	subscriber := &s.subscribers[fd]
	input := s.scratch[:count]
	if subscriber.input != nil {
		input = append(subscriber.input, input...)
	}
	rest, err := s.take(fd, input)
	if err != nil {
		return err
	}
	subscriber.input = nil
	if len(rest) > 0 {
		subscriber.input = bytes.Clone(rest)
	}
	return nil
}

// take takes all that is whole from the front; returns the rest.
func (s *server) take(fd int, input []byte) ([]byte, error) {
	if !s.subscribers[fd].open {
		end := bytes.Index(input, []byte("\r\n\r\n"))
		if end < 0 {
			if len(input) > headBytesMax {
				return nil, errGone
			}
			return input, nil
		}
		if err := s.upgrade(fd, input[:end+4]); err != nil {
			return nil, err
		}
		input = input[end+4:]
	}
	for len(input) > 0 {
		rest, err := s.takeFrame(fd, input)
		if err != nil {
			return nil, err
		}
		if len(rest) == len(input) {
			break
		}
		input = rest
	}
	return input, nil
}

func (s *server) upgrade(fd int, head []byte) error {
	var answer bytes.Buffer
	_, err := s.upgrader.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(head), &answer})
	if sent := s.send(fd, answer.Bytes()); err == nil {
		err = sent
	}
	s.subscribers[fd].open = err == nil
	return err
}

// takeFrame takes one frame if it is whole. Messages of subscribers mean nothing.
func (s *server) takeFrame(fd int, input []byte) ([]byte, error) {
	reader := bytes.NewReader(input)
	header, err := ws.ReadHeader(reader)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return input, nil
	}
	if err != nil || !header.Masked || header.Length > messageBytesMax {
		return nil, errGone
	}
	rest := input[len(input)-reader.Len():]
	if int64(len(rest)) < header.Length {
		return input, nil
	}
	payload, rest := rest[:header.Length], rest[header.Length:]
	ws.Cipher(payload, header.Mask, 0)
	switch header.OpCode {
	case ws.OpPing:
		err = s.send(fd, ws.MustCompileFrame(ws.NewPongFrame(payload)))
	case ws.OpClose:
		s.send(fd, ws.MustCompileFrame(ws.NewCloseFrame(payload)))
		err = errGone
	}
	return rest, err
}

func (s *server) broadcast() {
	var count [8]byte
	unix.Read(s.wake, count[:])
	for {
		select {
		case frame := <-s.publications:
			s.sendToAll(frame)
		default:
			return
		}
	}
}

func (s *server) sendToAll(frame []byte) {
	for fd := range s.subscribers {
		if s.subscribers[fd].open && s.send(fd, frame) != nil {
			s.drop(fd)
		}
	}
}

// pingSome pings those whose second has come since the last time.
func (s *server) pingSome() {
	now := time.Now().Unix()
	if now == s.lastPing {
		return
	}
	s.lastPing = now
	slot := uint8(now % int64(pingInterval/time.Second))
	for fd := range s.subscribers {
		subscriber := &s.subscribers[fd]
		if subscriber.open && subscriber.slot == slot && s.send(fd, ws.CompiledPing) != nil {
			s.drop(fd)
		}
	}
}

// send hands bytes to the kernel, and keeps what it does not take.
func (s *server) send(fd int, data []byte) error {
	subscriber := &s.subscribers[fd]
	if len(subscriber.pending) == 0 {
		sent, err := unix.Write(fd, data)
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			return errGone
		}
		if data = data[max(sent, 0):]; len(data) == 0 {
			return nil
		}
		if err := s.watch(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN|unix.EPOLLOUT); err != nil {
			return errGone
		}
	}
	if len(subscriber.pending)+len(data) > pendingBytesMax {
		return errGone
	}
	subscriber.pending = append(subscriber.pending, data...)
	return nil
}

func (s *server) flush(fd int) error {
	subscriber := &s.subscribers[fd]
	sent, err := unix.Write(fd, subscriber.pending)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil {
		return errGone
	}
	if subscriber.pending = subscriber.pending[sent:]; len(subscriber.pending) > 0 {
		return nil
	}
	subscriber.pending = nil
	return s.watch(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN)
}
