# A site that sleeps: a target group for an instance that is there, and a tagged listener rule.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "listener_arn" {
  type        = string
  description = "A listener that the function watches"
}

variable "vpc_id" {
  type = string
}

variable "instance_id" {
  type        = string
  description = "Its security group lets the load balancer in"
}

variable "host" {
  type        = string
  description = "Such as app.example.com"
}

variable "priority" {
  type = number
}

resource "aws_lb_target_group" "site" {
  #checkov:skip=CKV_AWS_378:From the load balancer to the machine it is plain HTTP, as the site speaks it.
  vpc_id   = var.vpc_id
  protocol = "HTTP"
  port     = 80

  # Awake ten seconds after it answers. AWS's defaults take up to 150.
  health_check {
    path                = "/"
    interval            = 5
    timeout             = 4
    healthy_threshold   = 2
    unhealthy_threshold = 2
    matcher             = "200-399"
  }
}

resource "aws_lb_target_group_attachment" "site" {
  target_group_arn = aws_lb_target_group.site.arn
  target_id        = var.instance_id
}

# The instance may be started and stopped. If it is a resource of yours, put the tag there.
resource "aws_ec2_tag" "managed" {
  resource_id = var.instance_id
  key         = "autostopping:managed"
  value       = "true"
}

resource "aws_lb_listener_rule" "site" {
  listener_arn = var.listener_arn
  priority     = var.priority

  condition {
    host_header {
      values = [var.host]
    }
  }

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.site.arn
  }

  tags = {
    "autostopping:idle" = "1h"
    "autostopping:name" = var.host
  }

  # While the site sleeps, its action leads to the waker: that is no drift. To change the action, take this out for one
  # apply, best while the site is awake.
  lifecycle {
    ignore_changes = [action]
  }
}
