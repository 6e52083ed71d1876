// Command go-client asks each URL of its arguments, and says `URL STATUS` or why not.
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

const token = "Bearer dop_v1_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func main() {
	client := http.Client{Timeout: 20 * time.Second}
	failed := false
	for _, url := range os.Args[1:] {
		status, err := ask(&client, url)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", url, err)
		} else {
			fmt.Println(url, status)
		}
		failed = failed || status != http.StatusOK
	}
	if failed {
		os.Exit(1)
	}
}

func ask(client *http.Client, url string) (int, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", token)
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
