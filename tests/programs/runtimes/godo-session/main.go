// Command godo-session is a session of godo, DigitalOcean's own client library for Go.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/digitalocean/godo"
)

func main() {
	if err := session(godo.NewFromToken(os.Getenv("DIGITALOCEAN_TOKEN"))); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("done")
}

func session(client *godo.Client) error {
	ctx := context.Background()
	account, _, err := client.Account.Get(ctx)
	if err != nil {
		return err
	}
	fmt.Println("account", account.Status)
	droplets, _, err := client.Droplets.List(ctx, &godo.ListOptions{PerPage: 20})
	if err != nil {
		return err
	}
	fmt.Println("droplets", len(droplets))
	wanted := godo.DropletCreateRequest{
		Name: "session", Region: "nyc3", Size: "s-1vcpu-1gb", Image: godo.DropletCreateImage{Slug: "debian-12-x64"},
	}
	droplet, _, err := client.Droplets.Create(ctx, &wanted)
	if err != nil {
		return err
	}
	fmt.Println("created", droplet.Name)
	records, _, err := client.Domains.Records(ctx, "example.com", nil)
	if err != nil {
		return err
	}
	fmt.Println("records", len(records))
	_, err = client.Droplets.Delete(ctx, droplet.ID)
	return err
}
